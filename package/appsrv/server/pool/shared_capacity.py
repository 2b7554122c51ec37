"""How the groups of an instance share its `max_pool_size`. Pure: gets the load of all groups, returns an eviction.

A group may grow as long as all groups together have fewer workers than `max_pool_size`. Otherwise a group in which
requests wait takes the place of another group's worker. Preferred is the worker that has been idle longest, first among
those that groups have beyond their `min_instances`. Where no worker is idle, a busy worker of a group that has at least
two workers more than this one finishes its request and ends. Where more groups are busy than there are places, they
take turns. This way each group with requests gets at least one worker, and no group gets all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# A group that has workers does not take the place of one that was busy a moment ago, since it may be needed again soon.
IDLE_SECONDS = 1.0
# How long a group keeps its only place when a group without one waits for it, and how long that group waits.
TURN_SECONDS = 5.0


@dataclass(frozen=True)
class GroupLoad:
    """The load of one group. `alive`: workers that boot or serve. `idle`: the serials of idle workers, and since when.

    `busy`: the serials of the workers that serve requests.
    """

    alive: int
    min_instances: int
    waiting: int
    idle: Mapping[int, float]
    busy: tuple[int, ...] = ()


@dataclass(frozen=True)
class Eviction:
    """This worker of this group has to end, to make room."""

    group: str
    serial: int


class SharedCapacity:
    """`limit` is the instance's max_pool_size. The groups that wait for room get it in the order of their requests."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, float] = {}
        self._alive_since: dict[str, float] = {}

    def room(self, alive: Mapping[str, int], name: str) -> int:
        """How many more workers this group may have; `alive`: how many workers each group has."""
        ahead = [other for other in self._waiting if other != name and self._before(other, name)]
        return max(0, self._limit - sum(alive.values()) - len(ahead))

    def _before(self, one: str, other: str) -> bool:
        return other not in self._waiting or self._waiting[one] < self._waiting[other]

    def needs_none(self, name: str) -> None:
        """The group has all workers that its requests need."""
        self._waiting.pop(name, None)

    def request_room(self, name: str, loads: Mapping[str, GroupLoad], now: float) -> Eviction | None:
        """Requests wait in this group, and there may be no room for another worker: the eviction that makes room."""
        self._waiting.setdefault(name, now)
        self._alive_since = {group: self._alive_since.get(group, now) for group, load in loads.items() if load.alive}
        if self.room({group: load.alive for group, load in loads.items()}, name):
            return None
        settled = now - IDLE_SECONDS if loads[name].alive else now
        others = {group: load for group, load in loads.items() if group != name}
        quiet = {group: load for group, load in others.items() if not load.waiting}
        spare = {group: load for group, load in quiet.items() if load.alive > load.min_instances}
        found = _idlest(spare, settled) or _idlest(quiet, settled) or _of_the_largest(others, loads[name].alive)
        return found if found is not None or loads[name].alive else self._turn_over(name, others, now)

    def _turn_over(self, name: str, others: Mapping[str, GroupLoad], now: float) -> Eviction | None:
        """A worker of the group that has had workers for longest, when its turn and the other group's wait are over."""
        holders = [(self._alive_since[group], group) for group, load in others.items() if load.busy]
        since, group = min(holders, default=(now, ""))
        if now - max(since, self._waiting[name]) < TURN_SECONDS:
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
