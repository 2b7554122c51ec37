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

from appsrv.development import reloader, standby


def modules(*names: str) -> dict[str, ModuleType]:
    return {name: ModuleType(name) for name in names}


def test_only_the_framework_and_appsrv_are_imported_ahead_in_the_order_they_were() -> None:
    loaded = modules(
        "django", "shop", "django.db", "djangoplus", "appsrv.worker.process", "requests", "appsrv_django.hook",
        "django.contrib.gis", "django.contrib.gis.gdal", "django.contrib.gist", "appsrv.development.standby",
    )
    order = standby.order(["django"], ["django.contrib.gis"], ["DJANGO_SETTINGS_MODULE"], loaded)
    ahead = ["django", "django.db", "appsrv.worker.process", "appsrv_django.hook", "django.contrib.gist"]
    assert order.modules == ahead
    assert order.hidden == ["DJANGO_SETTINGS_MODULE"]


def placed(**files: str) -> dict[str, ModuleType]:
    made = modules(*files)
    for name, file in files.items():
        made[name].__file__ = file
    return made


def test_a_copy_that_the_project_brings_is_another_module() -> None:
    project = placed(django="/shop/vendor/django/__init__.py", sqlite3="/site/pysqlite3/__init__.py", shop="/shop/x.py")
    project |= modules("builtins", "django.db")
    origins = standby.order(["django"], [], [], project).origins
    assert set(origins) == {"django", "sqlite3", "shop"}
    ahead = placed(django="/site/django/__init__.py", sqlite3="/lib/sqlite3/__init__.py", json="/lib/json/__init__.py")
    assert standby.replaced_modules(origins, ahead) == ["django", "sqlite3"]
    assert standby.replaced_modules(origins, project) == []


def test_what_is_installed_meanwhile_shows(tmp_path: Path) -> None:
    path = [str(tmp_path), str(tmp_path / "not there")]
    (tmp_path / "module.py").touch()
    before = standby.startup_files(path)
    assert before == {}
    (tmp_path / "lib.pth").write_text("/src/lib\n")
    (tmp_path / "__editable___lib_finder.py").touch()
    after = standby.startup_files(path)
    assert len(after) == 2
    (tmp_path / "lib.pth").write_text("/src/elsewhere\n")
    assert standby.startup_files(path) != after


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


def against(
    loaded: dict[str, ModuleType] | None = None, environ: dict[str, str] | None = None, **answers: bool
) -> str | None:
    """The reason against it where, but for this, all is well."""
    return standby.reason_against(
        environ or {}, loaded or {}, **{"has_hook": True, "reloads": True, "wanted": True, **answers}
    )


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])


@pytest.mark.usefixtures("quiet")
def test_nothing_is_against_an_ordinary_command() -> None:
    assert against(modules("django")) is None


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("missing", ["has_hook", "reloads", "wanted"])
def test_what_it_cannot_be_without(missing: str) -> None:
    answers = {missing: False}
    assert against(None, None, **answers) is not None


def test_warnings_that_somebody_wants_to_see_belong_to_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    assert against() is not None


@pytest.mark.usefixtures("quiet")
def test_times_of_importing_belong_to_the_start() -> None:
    assert against(environ={"PYTHONPROFILEIMPORTTIME": "1"}) is not None


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("name", "module", "refused"),
    [
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: name == "thread"), True),
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: False), False),
        ("eventlet.patcher", SimpleNamespace(already_patched={"socket": True}), True),
        ("eventlet.patcher", SimpleNamespace(already_patched={}), False),
    ],
)
def test_monkey_patching_has_to_come_first(name: str, module: Any, *, refused: bool) -> None:
    assert (against({name: cast(ModuleType, module)}) is not None) == refused


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
