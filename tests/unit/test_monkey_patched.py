"""monkey_patched.py: what follows from the patches of an application."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from appsrv import monkey_patched
from appsrv.settings import Settings


@pytest.mark.parametrize(("patched", "expected"), [({"threading"}, True), ({"socket", "time"}, False), (None, False)])
def test_only_green_threads_count(patched: set[str] | None, expected: bool) -> None:
    monkey: Any = ModuleType("gevent.monkey")
    monkey.is_module_patched = lambda name: name in (patched or ())
    assert monkey_patched.by_gevent({"gevent.monkey": monkey} if patched is not None else {}) is expected


@pytest.mark.parametrize(("development", "most"), [(False, 4), (True, 100)])
def test_the_settings_of_a_patched_application(development: bool, most: int) -> None:
    settings = Settings(threads=4)
    served = monkey_patched.settings_for(settings, patched=True, development=development)
    assert (served.model, served.concurrency) == ("gevent", most)
    assert monkey_patched.cells_for(settings, development=development) >= most
    assert monkey_patched.settings_for(settings, patched=False, development=development) is settings
    assert monkey_patched.settings_for(served, patched=True, development=development) is served
