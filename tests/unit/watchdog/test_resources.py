"""resources.py: what an application that is given to another user has of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.logs.server_log import ServerLog
from appsrv.settings.table import Settings
from appsrv.system.users import Identity
from appsrv.watchdog.resources import Resources


def identity(name: str) -> Identity:
    return Identity(name, os.getuid(), os.getgid(), (os.getgid(),), "/")


BEFORE, AFTER = identity("before"), identity("after")


@pytest.fixture
def group(tmp_path: Path) -> AppGroup:
    spec = AppSpec(str(tmp_path), "", start_command="node server.js")
    return AppGroup.alone(spec, Settings(log_file=str(tmp_path / "app.log")))


@pytest.fixture
def resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resources]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Resources(Settings(prometheus_multiproc=True), str(tmp_path), [], {}, {}, development=False)
    made.directory = cast(Any, SimpleNamespace(path=tmp_path))
    made.log = ServerLog(str(tmp_path / "server.log"), "info", None)
    yield made
    made.log.close()


def test_directories_of_the_user_before_are_not_given_to_another(resources: Resources, group: AppGroup) -> None:
    for made in (resources.upstreams_of, resources.make_multiproc):
        first, second = made(group, BEFORE), made(group, AFTER)
        assert first != second
        assert (made(group, BEFORE), made(group, AFTER)) == (first, second)


def test_nor_is_the_log(resources: Resources, group: AppGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Identity | None] = []
    logs: list[ServerLog] = []
    open_log = resources._open_log

    def opening(path: str, whose: Identity | None, *, blocks: bool = True) -> ServerLog:
        opened.append(whose)
        logs.append(open_log(path, None, blocks=blocks))
        return logs[-1]

    monkeypatch.setattr(resources, "_open_log", opening)
    for whose in (BEFORE, BEFORE, AFTER):
        resources.group_logs[group.name] = resources.log_of(group, whose)
    for log in logs:
        log.close()
    assert opened == [BEFORE, AFTER]
