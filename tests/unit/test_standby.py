"""What a standby preloader imports ahead, and when there must not be one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from appsrv import reloader, standby


def modules(*names: str) -> dict[str, ModuleType]:
    return {name: ModuleType(name) for name in names}


def test_only_the_framework_and_appsrv_are_imported_ahead_in_the_order_they_were() -> None:
    loaded = modules("django", "shop", "django.db", "djangoplus", "appsrv.worker", "requests", "appsrv_django.hook")
    order = standby.order(["django"], ["DJANGO_SETTINGS_MODULE"], loaded)
    assert order.modules == ["django", "django.db", "appsrv.worker", "appsrv_django.hook"]
    assert order.hidden == ["DJANGO_SETTINGS_MODULE"]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_what_cannot_be_imported_yet_is_left_for_later(written: Callable[[str, str], None]) -> None:
    written("ahead_fails", "raise RuntimeError('not configured')\n")
    written("ahead_exits", "raise SystemExit(3)\n")
    written("ahead_works", "X = 1\n")
    standby.import_ahead(["ahead_fails", "ahead_exits", "nothing_of_this_name", "ahead_works"])
    assert sys.modules["ahead_works"].X == 1
    assert "ahead_fails" not in sys.modules


def test_variables_are_hidden_while_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMES_THE_PROJECT", "shop.settings")
    with standby._hidden(["NAMES_THE_PROJECT", "NOT_SET"]):
        assert "NAMES_THE_PROJECT" not in os.environ
    assert os.environ["NAMES_THE_PROJECT"] == "shop.settings"
    assert "NOT_SET" not in os.environ


def test_nothing_is_against_an_ordinary_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    assert standby.reason_against(modules("django")) is None


def test_warnings_that_somebody_wants_to_see_belong_to_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    assert standby.reason_against({}) is not None


@pytest.mark.parametrize(
    ("name", "module", "refused"),
    [
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: True), True),
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: False), False),
        ("eventlet.patcher", SimpleNamespace(already_patched={"socket": True}), True),
        ("eventlet.patcher", SimpleNamespace(already_patched={}), False),
    ],
)
def test_monkey_patching_has_to_come_first(
    monkeypatch: pytest.MonkeyPatch, name: str, module: Any, *, refused: bool
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    assert (standby.reason_against({name: cast(ModuleType, module)}) is not None) == refused


def test_a_change_of_what_was_imported_is_seen(
    written: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloader, "_loaded", {})
    monkeypatch.setattr(SourceFileLoader, "path_stats", SourceFileLoader.path_stats)
    reloader.remember_loaded()
    written("ahead_changes", "X = 1\n")
    standby.import_ahead(["ahead_changes"])
    assert not reloader.loaded_have_changed()
    written("ahead_changes", "X = 22\n")
    assert reloader.loaded_have_changed()
    (tmp_path / "ahead_changes.py").unlink()
    assert reloader.loaded_have_changed()
