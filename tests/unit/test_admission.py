"""Who may still wait: the queue's limit, told with views as a lookout would give them."""

from __future__ import annotations

import pytest

from appsrv.admission import GRACE, SAY_AGAIN, Admission
from appsrv.lookout import View
from appsrv.pool import Load

BUSY, IDLE = Load(1, 10, 0.0), Load(0, 10, 0.0)


def view(now: float, waiting: int, *loads: Load, pace: float = 0.0) -> View:
    return View(now, dict(enumerate(loads)), waiting, pace)


def crowded(admission: Admission, waiting: int, *, pace: float = 0.0, more: int = 0) -> bool:
    """Asked twice, with the moment between that it takes to tell."""
    admission.full(view(0.0, waiting, BUSY, BUSY, pace=pace), (0, 1), more)
    return admission.full(view(GRACE, waiting, BUSY, BUSY, pace=pace), (0, 1), more)


def test_the_limit_is_the_number_that_may_wait() -> None:
    assert not crowded(Admission(100), 100)
    assert crowded(Admission(100), 101)
    assert crowded(Admission(100), 100, more=1)


def test_a_crowd_has_a_moment() -> None:
    admission = Admission(1)
    assert not admission.full(view(5.0, 9, BUSY), (0,))
    assert not admission.full(view(5.0 + GRACE / 2, 9, BUSY), (0,))
    assert admission.full(view(5.0 + 2 * GRACE, 9, BUSY), (0,))


def test_the_moment_begins_anew_when_the_crowd_was_gone() -> None:
    admission = Admission(1)
    admission.full(view(0.0, 9, BUSY), (0,))
    admission.full(view(GRACE, 0, BUSY), (0,))
    assert not admission.full(view(2 * GRACE, 9, BUSY), (0,))


def test_a_free_worker_takes_them() -> None:
    admission = Admission(1)
    for now in (0.0, GRACE, 9.0):
        assert not admission.full(view(now, 9, BUSY, IDLE), (0, 1))


def test_a_worker_that_is_not_ready_does_not_count() -> None:
    admission = Admission(1)
    admission.full(view(0.0, 9, BUSY, IDLE), (0,))
    assert admission.full(view(GRACE, 9, BUSY, IDLE), (0,))


@pytest.mark.parametrize(("pace", "full"), [(150.0, False), (149.0, True)])
def test_a_queue_that_drains_within_a_second_is_not_full(pace: float, full: bool) -> None:
    assert crowded(Admission(100), 150, pace=pace) is full


def test_no_limit() -> None:
    assert not crowded(Admission(0), 1_000_000)
    assert Admission(0).excess(view(0.0, 1_000_000, BUSY)) == 0


def test_excess() -> None:
    assert Admission(100).excess(view(0.0, 130, BUSY)) == 30
    assert Admission(100).excess(view(0.0, 30, BUSY)) == 0


def test_it_is_said_now_and_then() -> None:
    admission = Admission(100)
    assert admission.count(0, 0.0) is None
    said = [admission.count(1, now) for now in (0.0, 1.0, SAY_AGAIN)]
    assert [line is not None for line in said] == [True, False, True]
    assert "max_request_queue_size (100)" in str(said[2])
    assert "(3 refused" in str(said[2])
