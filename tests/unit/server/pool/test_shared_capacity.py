"""capacity.py: how groups share the places there are, and who makes room for whom."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from appsrv.server.pool.shared_capacity import Eviction, GroupLoad, SharedCapacity


def load(
    alive: int, *, idle: Mapping[int, float] | None = None, busy: tuple[int, ...] = (), least: int = 1, waiting: int = 0
) -> GroupLoad:
    return GroupLoad(alive, least, waiting, idle or {}, busy)


def test_room_is_what_all_together_leave() -> None:
    capacity = SharedCapacity(4)
    assert capacity.room({"a": 1, "b": 2}, "a") == 1
    assert capacity.room({"a": 3, "b": 2}, "a") == 0


def test_nobody_has_to_go_while_there_is_room() -> None:
    loads = {"a": load(0, waiting=1), "b": load(2, idle={1: 0.0, 2: 0.0})}
    assert SharedCapacity(3).request_room("a", loads, 100.0) is None


def test_the_one_idle_longest_beyond_what_is_kept_makes_room() -> None:
    loads = {
        "waits": load(0, waiting=1),
        "kept": load(1, idle={1: 1.0}),
        "large": load(3, idle={2: 50.0, 3: 40.0}, busy=(4,)),
    }
    assert SharedCapacity(4).request_room("waits", loads, 100.0) == Eviction("large", 3)


def test_kept_ones_go_when_no_other_is_idle() -> None:
    loads = {"waits": load(0, waiting=1), "kept": load(1, idle={1: 1.0}), "large": load(2, busy=(2, 3))}
    assert SharedCapacity(3).request_room("waits", loads, 100.0) == Eviction("kept", 1)


def test_one_whose_requests_wait_is_not_idle() -> None:
    loads = {"waits": load(0, waiting=1), "asked": load(1, idle={1: 1.0}, waiting=1)}
    assert SharedCapacity(1).request_room("waits", loads, 100.0) is None


@pytest.mark.parametrize(("mine", "evicted"), [(0, Eviction("large", 7)), (1, Eviction("large", 7)), (2, None)])
def test_a_busy_one_of_a_much_larger_group_finishes_and_goes(mine: int, evicted: Eviction | None) -> None:
    loads = {"waits": load(mine, waiting=1), "large": load(3, busy=(7, 8, 9), waiting=5), "small": load(1, busy=(1,))}
    assert SharedCapacity(4).request_room("waits", loads, 100.0) == evicted


def test_who_has_workers_takes_no_place_that_was_needed_a_moment_ago() -> None:
    loads = {"waits": load(1, waiting=1, busy=(1,)), "other": load(2, idle={2: 99.5, 3: 99.6})}
    capacity = SharedCapacity(3)
    assert capacity.request_room("waits", loads, 100.0) is None
    assert capacity.request_room("waits", loads, 100.6) == Eviction("other", 2)
    assert capacity.request_room("other", {**loads, "waits": load(0)}, 100.0) is None


def test_a_place_that_comes_free_is_of_who_has_waited_longest() -> None:
    capacity = SharedCapacity(2)
    busy = {"a": load(0, waiting=1), "b": load(0, waiting=1), "c": load(2, idle={1: 0.0, 2: 0.0})}
    capacity.request_room("a", busy, 10.0)
    capacity.request_room("b", busy, 11.0)
    alive = {"a": 0, "b": 0, "c": 1}
    assert (capacity.room(alive, "a"), capacity.room(alive, "b"), capacity.room(alive, "c")) == (1, 0, 0)
    capacity.needs_none("a")
    assert capacity.room(alive, "b") == 1
    assert capacity.room(alive, "c") == 0


def test_where_more_are_busy_than_there_are_places_they_take_turns() -> None:
    """Each with one worker that is never idle: who has none must not wait for ever."""
    capacity = SharedCapacity(2)
    loads = {"a": load(1, busy=(1,), waiting=3), "b": load(1, busy=(2,), waiting=3), "c": load(0, waiting=1)}
    assert capacity.request_room("c", loads, 100.0) is None
    assert capacity.request_room("c", loads, 104.9) is None
    assert capacity.request_room("c", loads, 105.0) == Eviction("a", 1)
    capacity.needs_none("c")
    loads = {"a": load(0, waiting=3), "b": load(1, busy=(2,), waiting=3), "c": load(1, busy=(3,), waiting=1)}
    assert capacity.request_room("a", loads, 105.1) is None
    assert capacity.request_room("a", loads, 110.1) == Eviction("b", 2)
    capacity.needs_none("a")
    loads = {"a": load(1, busy=(4,), waiting=3), "b": load(0, waiting=3), "c": load(1, busy=(3,), waiting=1)}
    assert capacity.request_room("b", loads, 110.2) is None
    assert capacity.request_room("b", loads, 115.2) == Eviction("c", 3)
