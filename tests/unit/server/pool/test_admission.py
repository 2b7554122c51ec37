"""Which requests may still wait, by readings of the load as the load monitor makes them."""

from __future__ import annotations

import pytest

from appsrv.server.pool.admission import GRACE_SECONDS, LOG_AGAIN_SECONDS, Admission
from appsrv.server.pool.load_monitor import View
from appsrv.server.pool.pool import Load
from appsrv.settings.parsers import AUTO

BUSY, IDLE = Load(1, 10, 0.0), Load(0, 10, 0.0)


def view(now: float, waiting: int, *loads: Load, throughput: float = 0.0) -> View:
    return View(now, dict(enumerate(loads)), waiting, throughput)


def excess(admission: Admission, waiting: int, *, throughput: float = 0.0, more: int = 0, coming: int = 0) -> int:
    """Asked twice, with the moment between that it takes to tell."""
    admission.excess(view(0.0, waiting, BUSY, BUSY, throughput=throughput), (0, 1), coming, more)
    return admission.excess(view(GRACE_SECONDS, waiting, BUSY, BUSY, throughput=throughput), (0, 1), coming, more)


@pytest.mark.parametrize("throughput", [0.0, 1e6])
def test_a_number_means_what_it_says_at_once_and_at_any_pace(throughput: float) -> None:
    assert Admission(100).excess(view(0.0, 100, BUSY, throughput=throughput), (0,)) == 0
    assert Admission(100).excess(view(0.0, 101, BUSY, throughput=throughput), (0,)) == 1
    assert Admission(100).excess(view(0.0, 100, BUSY, throughput=throughput), (0,), more=1) == 1
    assert Admission(100).excess(view(0.0, 130, BUSY, throughput=throughput), (0,)) == 30


def test_requests_that_workers_to_come_will_take_are_not_too_many() -> None:
    assert excess(Admission(2), 7, coming=5) == 0
    assert excess(Admission(2), 7, coming=5, more=1) == 1
    assert excess(Admission(2), 8, coming=5) == 1


def test_a_free_worker_takes_them() -> None:
    admission = Admission(1)
    for now in (0.0, GRACE_SECONDS, 9.0):
        assert admission.excess(view(now, 9, BUSY, IDLE), (0, 1)) == 0


def test_a_worker_that_is_not_ready_does_not_count() -> None:
    assert Admission(1).excess(view(0.0, 9, BUSY, IDLE), (0,)) == 8


def test_no_limit() -> None:
    assert excess(Admission(0), 1_000_000) == 0


# -- left to appsrv


def test_a_crowd_has_a_moment() -> None:
    admission = Admission(AUTO)
    assert admission.excess(view(5.0, 109, BUSY), (0,)) == 0
    assert admission.excess(view(5.0 + GRACE_SECONDS / 2, 109, BUSY), (0,)) == 0
    assert admission.excess(view(5.0 + 2 * GRACE_SECONDS, 109, BUSY), (0,)) == 9


def test_the_moment_begins_anew_when_the_crowd_was_gone() -> None:
    admission = Admission(AUTO)
    admission.excess(view(0.0, 109, BUSY), (0,))
    admission.excess(view(GRACE_SECONDS, 0, BUSY), (0,))
    assert admission.excess(view(2 * GRACE_SECONDS, 109, BUSY), (0,)) == 0


@pytest.mark.parametrize(("throughput", "too_many"), [(150.0, 0), (149.0, 50)])
def test_a_queue_that_drains_within_a_second_is_not_full(throughput: float, too_many: int) -> None:
    assert excess(Admission(AUTO), 150, throughput=throughput) == too_many


def test_below_a_hundred_the_pace_does_not_matter() -> None:
    assert excess(Admission(AUTO), 100) == 0


def test_it_is_said_now_and_then() -> None:
    admission = Admission(100)
    assert admission.count(0, 0.0, lambda: 0.0) is None
    said = [admission.count(1, now, lambda: 4.25) for now in (0.0, 1.0, LOG_AGAIN_SECONDS)]
    assert [line is not None for line in said] == [True, False, True]
    assert "max_request_queue_size (100)" in str(said[2])
    assert "the oldest for 4.2 s (3 refused" in str(said[2])
