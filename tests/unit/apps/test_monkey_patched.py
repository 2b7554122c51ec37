"""monkey_patched.py: what follows from the patches of an application."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from appsrv.apps import monkey_patched
from appsrv.settings.table import Settings


@pytest.mark.parametrize(("patched", "expected"), [("threading", "gevent"), ("socket", None)])
def test_gevent_counts_where_threads_are_greenlets(patched: str, expected: str | None) -> None:
    monkey: Any = ModuleType("gevent.monkey")
    monkey.is_module_patched = lambda name: name == patched
    assert monkey_patched.patched_by({"gevent.monkey": monkey}) == expected


@pytest.mark.parametrize(("patched", "expected"), [("thread", "eventlet"), ("socket", None)])
def test_so_does_eventlet(patched: str, expected: str | None) -> None:
    patcher: Any = ModuleType("eventlet.patcher")
    patcher.already_patched = {patched: True}
    assert monkey_patched.patched_by({"eventlet.patcher": patcher}) == expected


def test_an_application_that_patches_nothing() -> None:
    assert monkey_patched.patched_by({}) is None
    settings = Settings(threads=4)
    assert monkey_patched.settings_for(settings, None, development=True) is settings


@pytest.mark.parametrize(("development", "most"), [(False, 4), (True, 100)])
def test_the_settings_of_a_patched_application(development: bool, most: int) -> None:
    settings = Settings(threads=4)
    served = monkey_patched.settings_for(settings, "gevent", development=development)
    assert (served.model, served.concurrency) == ("gevent", most)
    assert f"{most} at a time" in monkey_patched.notice(served)
    assert monkey_patched.cells_for(settings, development=development) >= most
    assert monkey_patched.settings_for(served, "gevent", development=development) is served
    single = monkey_patched.settings_for(settings, "eventlet", development=development)
    assert (single.model, single.concurrency) == ("process", 1)
    assert "one request at a time" in monkey_patched.notice(single)
    assert monkey_patched.settings_for(single, "eventlet", development=development) is single
