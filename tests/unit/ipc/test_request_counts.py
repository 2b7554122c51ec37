"""request_counts.py: what a worker counts is what the server reads, and nothing is lost with the worker."""

from __future__ import annotations

import os

import pytest

from appsrv.ipc.request_counts import BUCKET_BOUNDS_SECONDS, Counts, total
from appsrv.ipc.scoreboard import Scoreboard


def test_another_process_reads_what_one_has_counted() -> None:
    board = Scoreboard.create(slots=2, cells=2)
    seen = Scoreboard(os.dup(board.fd), 2, 2)
    first, second = (board.slot(1).tally(n) for n in range(2))
    first.count(200, 0.0005)
    first.count(404, 0.3)
    second.count(503, 31.0)
    second.refused(400)
    counts = seen.slot(1).counts()
    assert counts.classes == [0, 0, 1, 0, 2, 1, 0, 0, 0, 0]
    assert counts.buckets[0] == 1
    assert counts.buckets[BUCKET_BOUNDS_SECONDS.index(0.5)] == 1
    assert counts.buckets[-1] == 1
    assert sum(counts.buckets) == 3, "what reached no application has no service time"
    assert counts.seconds == pytest.approx(31.3005)


@pytest.mark.parametrize("place", range(len(BUCKET_BOUNDS_SECONDS)))
def test_a_bound_belongs_to_the_bucket_below_it(place: int) -> None:
    tally = Scoreboard.create(slots=1, cells=1).slot(0).tally(0)
    tally.count(200, BUCKET_BOUNDS_SECONDS[place])
    assert tally.read().buckets.index(1) == place, "Prometheus: less than or equal"


def test_the_neighbours_are_not_touched() -> None:
    board = Scoreboard.create(slots=3, cells=1)
    board.slot(1).tally(0).count(999, 1e9)
    assert board.slot(0).counts() == board.slot(2).counts() == Counts()


def test_a_new_worker_begins_at_zero() -> None:
    board = Scoreboard.create(slots=1, cells=2)
    board.slot(0).tally(1).count(200, 0.1)
    board.slot(0).clear()
    assert board.slot(0).counts() == Counts()


def test_requests_and_busy_time_are_known_without_a_tally() -> None:
    board = Scoreboard.create(slots=1, cells=2)
    cell = board.slot(0).cell(1)
    cell.begin(7, 100.0)
    cell.end(100.5, 3)
    counts = board.slot(0).counts()
    assert counts.requests == 3
    assert counts.busy == pytest.approx(0.5)


def test_sums() -> None:
    one = Counts(2, 0.5, [1] * 10, [1] * (len(BUCKET_BOUNDS_SECONDS) + 1), 3.0)
    both = total([one, one])
    assert (both.requests, both.busy, both.seconds) == (4, 1.0, 6.0)
    assert set(both.classes) == set(both.buckets) == {2}
    assert one.requests == 2, "what is added stays as it was"
