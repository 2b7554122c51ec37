"""keepalive.py: how long an idle connection may be used again, by numbers."""

from __future__ import annotations

import pytest

from appsrv.generic.keepalive import (
    DEFAULT_LIMIT_SECONDS,
    JUST_USED_SECONDS,
    OBSERVATION_LIFETIME_SECONDS,
    ReuseLimit,
    announced_timeout,
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("timeout=5", 5), ("timeout=5, max=100", 5), ("max=100,timeout = 20", 20), ('timeout="3"', 3), ("max=100", None),
     ("timeout=", None), ("mytimeout=5", None), ("timeout=-1", None), ("TIMEOUT=7", 7)],
)
def test_announced_timeout(value: str, seconds: int | None) -> None:
    assert announced_timeout([("Content-Type", "text/plain"), ("keep-alive", value)]) == seconds


def test_without_the_field_nothing_is_announced() -> None:
    assert announced_timeout([("X-Timeout", "timeout=5")]) is None


def test_limit_by_default_and_for_requests_that_cannot_be_repeated() -> None:
    limit = ReuseLimit()
    assert limit.seconds(0.0, repeatable=True) == DEFAULT_LIMIT_SECONDS
    assert limit.seconds(0.0, repeatable=False) == JUST_USED_SECONDS


@pytest.mark.parametrize(("announced", "expected"), [(60, DEFAULT_LIMIT_SECONDS), (5, 3.75), (1, 0.75), (0, 0.0)])
def test_limit_stays_below_the_announced_timeout(announced: int, expected: float) -> None:
    limit = ReuseLimit()
    limit.announce(announced)
    assert limit.seconds(0.0, repeatable=True) == expected
    assert limit.seconds(0.0, repeatable=False) == min(expected, JUST_USED_SECONDS)


def test_limit_stays_below_the_shortest_idle_time_that_met_a_close_until_that_is_long_ago() -> None:
    limit = ReuseLimit()
    limit.observe_close(2.0, now=10.0)
    limit.observe_close(1.0, now=11.0)
    limit.observe_close(3.0, now=12.0)
    assert limit.seconds(13.0, repeatable=True) == 0.75
    assert limit.seconds(12.1 + OBSERVATION_LIFETIME_SECONDS, repeatable=True) == DEFAULT_LIMIT_SECONDS


def test_a_process_that_closes_each_connection_after_its_response_gets_a_new_one_each_time() -> None:
    limit = ReuseLimit()
    limit.observe_close(0.0, now=1.0)
    assert limit.seconds(2.0, repeatable=True) == 0.0
