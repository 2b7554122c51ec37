"""slumber.py: when an application is let go of, and when it is loaded again."""

from __future__ import annotations

from appsrv.slumber import Slumber


def test_it_falls_asleep_when_it_was_quiet_for_long_enough() -> None:
    slumber = Slumber(10.0)
    assert not slumber.falls_asleep(1.0, quiet=True)
    assert not slumber.falls_asleep(10.9, quiet=True)
    assert slumber.falls_asleep(11.0, quiet=True)
    assert not slumber.falls_asleep(30.0, quiet=True), "it sleeps already"


def test_whatever_happens_begins_the_time_anew() -> None:
    slumber = Slumber(10.0)
    slumber.falls_asleep(1.0, quiet=True)
    assert not slumber.falls_asleep(11.0, quiet=False)
    assert not slumber.falls_asleep(12.0, quiet=True)
    assert slumber.falls_asleep(22.0, quiet=True)


def test_a_request_wakes_it_once() -> None:
    slumber = Slumber(10.0, asleep=True)
    assert not slumber.wakes(0)
    assert slumber.wakes(1)
    assert not slumber.wakes(1)


def test_some_never_sleep() -> None:
    slumber = Slumber(0.0)
    assert not slumber.falls_asleep(1.0, quiet=True)
    assert not slumber.falls_asleep(1e9, quiet=True)
