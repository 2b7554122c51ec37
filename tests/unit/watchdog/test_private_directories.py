"""Directories of applications: made once, never given to another user, removed with the application."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.settings.table import Settings
from appsrv.system.users import Identity
from appsrv.watchdog.private_directories import PrivateDirectories


def identity(name: str) -> Identity:
    return Identity(name, os.getuid(), os.getgid(), tuple(os.getgroups()), "/")


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def group(name: str) -> AppGroup:
    return AppGroup(AppSpec("/srv/shop", ""), Settings(), name)


def test_each_user_has_a_directory(run_directory: Path) -> None:
    made = PrivateDirectories(run_directory)
    before, after = identity("before"), identity("after")
    paths = [made.path_of("upstreams-", group("shop"), whose) for whose in (None, before, after)]
    assert len(set(paths)) == 3
    assert [made.path_of("upstreams-", group("shop"), whose) for whose in (None, before, after)] == paths
    # Another user cannot enter the run directory.
    assert [Path(path).parent == run_directory for path in paths] == [True, False, False]
    assert {os.stat(path).st_mode & 0o777 for path in paths} == {0o700}


def test_they_are_restored_and_removed(run_directory: Path) -> None:
    made = PrivateDirectories(run_directory)
    shop, forum = (Path(made.path_of("prometheus-", group(name), None)) for name in ("shop", "forum"))
    shutil.rmtree(run_directory)
    made.restore()
    assert shop.is_dir()
    assert forum.is_dir()
    (shop / "counter.db").write_text("1")
    made.remove("shop")
    assert not shop.exists()
    assert forum.is_dir()
    made.remove_all()
    assert not forum.exists()
