"""fleet.py: how groups share the places there are, and who makes room for whom."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from appsrv.fleet import Eviction, Fleet, GroupLoad


def load(
    alive: int, *, idle: Mapping[int, float] | None = None, busy: tuple[int, ...] = (), least: int = 1, waiting: int = 0
) -> GroupLoad:
    return GroupLoad(alive, least, waiting, idle or {}, busy)


def test_room_is_what_all_together_leave() -> None:
    fleet = Fleet(4)
    assert fleet.room({"a": 1, "b": 2}, "a") == 1
    assert fleet.room({"a": 3, "b": 2}, "a") == 0


def test_nobody_has_to_go_while_there_is_room() -> None:
    assert Fleet(3).hungry("a", {"a": load(0, waiting=1), "b": load(2, idle={1: 0.0, 2: 0.0})}, 100.0) is None


def test_the_one_idle_longest_beyond_what_is_kept_makes_room() -> None:
    loads = {
        "hungry": load(0, waiting=1),
        "kept": load(1, idle={1: 1.0}),
        "large": load(3, idle={2: 50.0, 3: 40.0}, busy=(4,)),
    }
    assert Fleet(4).hungry("hungry", loads, 100.0) == Eviction("large", 3)


def test_kept_ones_go_when_no_other_is_idle() -> None:
    loads = {"hungry": load(0, waiting=1), "kept": load(1, idle={1: 1.0}), "large": load(2, busy=(2, 3))}
    assert Fleet(3).hungry("hungry", loads, 100.0) == Eviction("kept", 1)


def test_one_whose_requests_wait_is_not_idle() -> None:
    loads = {"hungry": load(0, waiting=1), "asked": load(1, idle={1: 1.0}, waiting=1)}
    assert Fleet(1).hungry("hungry", loads, 100.0) is None


@pytest.mark.parametrize(("mine", "evicted"), [(0, Eviction("large", 7)), (1, Eviction("large", 7)), (2, None)])
def test_a_busy_one_of_a_much_larger_group_finishes_and_goes(mine: int, evicted: Eviction | None) -> None:
    loads = {"hungry": load(mine, waiting=1), "large": load(3, busy=(7, 8, 9), waiting=5), "small": load(1, busy=(1,))}
    assert Fleet(4).hungry("hungry", loads, 100.0) == evicted


def test_who_has_workers_takes_no_place_that_was_needed_a_moment_ago() -> None:
    loads = {"hungry": load(1, waiting=1, busy=(1,)), "other": load(2, idle={2: 99.5, 3: 99.6})}
    fleet = Fleet(3)
    assert fleet.hungry("hungry", loads, 100.0) is None
    assert fleet.hungry("hungry", loads, 100.6) == Eviction("other", 2)
    assert fleet.hungry("other", {**loads, "hungry": load(0)}, 100.0) is None


def test_a_place_that_comes_free_is_of_who_has_waited_longest() -> None:
    fleet = Fleet(2)
    busy = {"a": load(0, waiting=1), "b": load(0, waiting=1), "c": load(2, idle={1: 0.0, 2: 0.0})}
    fleet.hungry("a", busy, 10.0)
    fleet.hungry("b", busy, 11.0)
    alive = {"a": 0, "b": 0, "c": 1}
    assert (fleet.room(alive, "a"), fleet.room(alive, "b"), fleet.room(alive, "c")) == (1, 0, 0)
    fleet.fed("a")
    assert fleet.room(alive, "b") == 1
    assert fleet.room(alive, "c") == 0


def test_where_more_are_busy_than_there_are_places_they_take_turns() -> None:
    """Each with one worker that is never idle: who has none must not wait for ever."""
    fleet = Fleet(2)
    loads = {"a": load(1, busy=(1,), waiting=3), "b": load(1, busy=(2,), waiting=3), "c": load(0, waiting=1)}
    assert fleet.hungry("c", loads, 100.0) is None
    assert fleet.hungry("c", loads, 104.9) is None
    assert fleet.hungry("c", loads, 105.0) == Eviction("a", 1)
    fleet.fed("c")
    loads = {"a": load(0, waiting=3), "b": load(1, busy=(2,), waiting=3), "c": load(1, busy=(3,), waiting=1)}
    assert fleet.hungry("a", loads, 105.1) is None
    assert fleet.hungry("a", loads, 110.1) == Eviction("b", 2)
    fleet.fed("a")
    loads = {"a": load(1, busy=(4,), waiting=3), "b": load(0, waiting=3), "c": load(1, busy=(3,), waiting=1)}
    assert fleet.hungry("b", loads, 110.2) is None
    assert fleet.hungry("b", loads, 115.2) == Eviction("c", 3)
