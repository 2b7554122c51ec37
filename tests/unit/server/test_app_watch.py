"""server/app_watch.py: what a server does when an application, its restart file or its directory changes."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.server.app_watch import AppWatch
from appsrv.server.restart_file import RestartFile
from appsrv.settings.table import Settings
from appsrv.system.root_watch import RootWatch, identity

DIRECTORY = "/srv/apps"


class Groups(dict[str, Any]):
    """The applications that are served, and what has been asked for."""

    def __init__(self, *groups: AppGroup) -> None:
        super().__init__({group.name: SimpleNamespace(group=group) for group in groups})
        self.problems: dict[str, str] = {}

    def add(self, group: AppGroup) -> Any:
        self[group.name] = SimpleNamespace(group=group)
        return self[group.name]

    def drop(self, name: str) -> None:
        del self[name]

    def report_problems(self, problems: dict[str, str]) -> None:
        self.problems = problems

    def all(self) -> list[Any]:
        return list(self.values())


def group(name: str, **settings: Any) -> AppGroup:
    base = "/" + os.path.basename(name)
    return AppGroup(AppSpec(name, "app"), replace(Settings(), base_uri=base, **settings), name)


def watch(groups: Any, *, stopping: bool = False) -> AppWatch:
    return AppWatch(Settings(apps_directory=DIRECTORY), groups, {}, lambda: stopping)


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The applications whose files and directories are watched from now on."""
    watched: list[Any] = []
    monkeypatch.setattr(AppWatch, "_watch", lambda _self, manager, _restart: watched.append(manager.group.name))
    return watched


def test_applications_come_to_the_directory_and_go(unwatched: list[Any]) -> None:
    shop, blog, changed = group(f"{DIRECTORY}/shop"), group(f"{DIRECTORY}/blog"), group(f"{DIRECTORY}/wiki")
    elsewhere = group("/home/ann/site")
    groups = Groups(shop, changed, elsewhere)
    changed_now = replace(changed, settings=replace(changed.settings, max_requests=7))
    found: dict[str, AppGroup | str] = {
        blog.name: blog, changed.name: changed_now, f"{DIRECTORY}/bad": "there is no application in it",
    }
    watch(groups).apps_directory_read(found, lambda _: None)
    assert sorted(groups) == sorted([elsewhere.name, blog.name, changed.name]), "the one from elsewhere stays"
    assert groups[changed.name].group == changed_now
    assert sorted(unwatched) == sorted([blog.name, changed.name])
    assert groups.problems == {f"{DIRECTORY}/bad": "there is no application in it"}


def test_a_server_that_stops_takes_no_further_applications(unwatched: list[Any]) -> None:
    groups = Groups()
    blog = group(f"{DIRECTORY}/blog")
    watch(groups, stopping=True).apps_directory_read({blog.name: blog}, lambda _: None)
    assert (list(groups), unwatched) == ([], [])


@pytest.fixture
def managed(tmp_path: Path) -> Any:
    (tmp_path / "tmp").mkdir()
    of_application = AppGroup.alone(AppSpec(str(tmp_path), "app"), Settings())
    return SimpleNamespace(
        group=of_application, settings=of_application.settings,
        preloaders=SimpleNamespace(loaded_from=identity(str(tmp_path))),
    )


def test_a_touch_of_the_restart_file_restarts(
    managed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    restarted: list[Any] = []

    def watch_once(file: RestartFile, restart: Any, until: Any) -> None:
        (tmp_path / "tmp" / "restart.txt").touch()
        assert not until()
        assert file.changed()
        restart()

    caplog.set_level(logging.INFO)
    (tmp_path / "tmp" / "always_restart.txt").touch()
    monkeypatch.setattr(RestartFile, "watch", watch_once)
    watch(SimpleNamespace(all=lambda: [managed]))._watch_restart_file(managed, restarted.append)
    assert restarted == [managed]
    assert "always_restart.txt is not heeded" in caplog.text
    assert "restart.txt was touched" in caplog.text


def test_a_directory_that_has_gone_is_logged_until_its_application_is_dropped(
    managed: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served, slept = [managed], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            served.clear()

    lines = iter(["the directory is not there", None, None])
    monkeypatch.setattr(RootWatch, "check", lambda _self, _loaded_from: next(lines))
    monkeypatch.setattr("gevent.sleep", sleep)
    watch(SimpleNamespace(all=lambda: served))._watch_root(managed)
    assert len(slept) == 3
    assert caplog.messages == ["the directory is not there"]
