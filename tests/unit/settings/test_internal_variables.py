"""internal_variables.py and development/takeover.py: names of variables, and what the switch among them says."""

from __future__ import annotations

import pytest

from appsrv.development import takeover
from appsrv.settings import internal_variables
from appsrv.settings.sources import variable_notices
from appsrv_django import hook
from appsrv_flask import command


def test_what_is_looked_for_before_appsrv_is_imported_has_the_same_name() -> None:
    assert (hook.PRELOADER, hook.STANDBY) == (internal_variables.PRELOADER, internal_variables.STANDBY)
    assert command.PRELOADER == internal_variables.PRELOADER


def test_no_notice_calls_them_unknown() -> None:
    assert list(variable_notices(dict.fromkeys(internal_variables.ALL, "1"))) == []
    assert len(list(variable_notices({"APPSRV_PRELOADR": "1"}))) == 1


@pytest.mark.parametrize(
    ("value", "off"), [("0", True), (" OFF ", True), ("no", True), ("False", True), ("", False), ("1", False)]
)
def test_the_switch(value: str, *, off: bool) -> None:
    assert takeover.switched_off({"APPSRV_RUNSERVER": value}) is off


def test_a_debugger_is_known_by_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    # Coverage and debuggers trace; this test may run under either.
    monkeypatch.setattr("sys.gettrace", lambda: None)
    assert takeover.debugger_attached(["os", "debugpy"])
    assert not takeover.debugger_attached(["os", "pdb"])
    monkeypatch.setattr("sys.gettrace", lambda: print)
    assert takeover.debugger_attached([])
