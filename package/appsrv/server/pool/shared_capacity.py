"""The fleet: how the groups of an instance share its `max_pool_size`. Pure: told what there is, says what may be.

A group may grow as long as all groups together have fewer workers than that. When they do not, a group in which
requests wait takes the place of another's worker: of the one that has been idle longest, first of those that groups
keep beyond their `min_instances`; or, where none is idle, a busy one of a group that has at least two more, which
finishes its request first. Where more groups are busy than there are places, they take turns. So whoever is asked gets
at least one worker, and nobody gets all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# A group that has workers takes no place of one that was busy a moment ago: it might be needed again in the next.
SETTLED = 1.0
# How long a group keeps its only place when one that has none waits for it, and how long that one waits.
TURN = 5.0


@dataclass(frozen=True)
class GroupLoad:
    """What one group has: workers that boot or serve, and of those that serve the idle ones, by serial, since when."""

    alive: int
    min_instances: int
    waiting: int
    idle: Mapping[int, float]
    busy: tuple[int, ...] = ()


@dataclass(frozen=True)
class Eviction:
    """This worker of this group makes room."""

    group: str
    serial: int


class SharedCapacity:
    """`limit` is the instance's max_pool_size. Groups that cannot grow are heard in the order in which they said so."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, float] = {}
        self._placed: dict[str, float] = {}

    def room(self, alive: Mapping[str, int], name: str) -> int:
        """How many workers this group may have beyond those there are; `alive` is how many each group has."""
        ahead = [other for other in self._waiting if other != name and self._before(other, name)]
        return max(0, self._limit - sum(alive.values()) - len(ahead))

    def _before(self, one: str, other: str) -> bool:
        return other not in self._waiting or self._waiting[one] < self._waiting[other]

    def needs_none(self, name: str) -> None:
        """The group has what it wants, or wants nothing any more."""
        self._waiting.pop(name, None)

    def request_room(self, name: str, loads: Mapping[str, GroupLoad], now: float) -> Eviction | None:
        """Requests wait in this group, which may grow, but there is no room; who makes some, if anybody has to."""
        self._waiting.setdefault(name, now)
        self._placed = {group: self._placed.get(group, now) for group, load in loads.items() if load.alive}
        if self.room({group: load.alive for group, load in loads.items()}, name):
            return None
        settled = now - SETTLED if loads[name].alive else now
        others = {group: load for group, load in loads.items() if group != name}
        quiet = {group: load for group, load in others.items() if not load.waiting}
        spare = {group: load for group, load in quiet.items() if load.alive > load.min_instances}
        found = _idlest(spare, settled) or _idlest(quiet, settled) or _of_the_largest(others, loads[name].alive)
        return found if found is not None or loads[name].alive else self._whose_turn_is_over(name, others, now)

    def _whose_turn_is_over(self, name: str, others: Mapping[str, GroupLoad], now: float) -> Eviction | None:
        """The worker of the group that has had a place for longest, when both have had their time."""
        placed = [(self._placed[group], group) for group, load in others.items() if load.busy]
        since, group = min(placed, default=(now, ""))
        if now - max(since, self._waiting[name]) < TURN:
            return None
        return Eviction(group, others[group].busy[0])


def _idlest(loads: Mapping[str, GroupLoad], before: float) -> Eviction | None:
    idle: Iterable[tuple[float, str, int]] = (
        (since, group, serial)
        for group, load in loads.items()
        for serial, since in load.idle.items()
        if since <= before
    )
    found = min(idle, default=None)
    return None if found is None else Eviction(found[1], found[2])


def _of_the_largest(loads: Mapping[str, GroupLoad], own: int) -> Eviction | None:
    largest = max(loads, key=lambda group: loads[group].alive, default=None)
    if largest is None or loads[largest].alive < own + 2 or not loads[largest].busy:
        return None
    return Eviction(largest, loads[largest].busy[0])
