"""The server logs of an instance: the place of the main one, and which groups share one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import RunDirectoryError
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.table import Settings
from appsrv.system.users import Identity
from appsrv.watchdog.instance_logs import InstanceLogs


def identity(name: str) -> Identity:
    return Identity(name, os.getuid(), os.getgid(), tuple(os.getgroups()), "/")


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[InstanceLogs]:
    # Only root can act as another user.
    monkeypatch.setattr("appsrv.watchdog.instance_logs.acting_as", lambda _: contextlib.nullcontext())
    made = InstanceLogs(Settings(), None, {}, development=False)
    yield made
    for log in {id(log): log for log in (made.main, *made.of_group.values())}.values():
        log.close()


def group(name: str, log_file: Path | None) -> AppGroup:
    return AppGroup(AppSpec("/srv", "app"), Settings(log_file=str(log_file) if log_file is not None else None), name)


def test_the_first_place_that_can_be_written(logs: InstanceLogs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = [(tmp_path / "file" / "server.log", None), (tmp_path / "server.log", None), (Path(NO_FILE), None)]
    notice = logs.open_main(None, places)
    assert logs.main.path == str(tmp_path / "server.log")
    assert notice is not None
    assert notice.startswith(f"the server log is {tmp_path / 'server.log'}: ")


def test_no_notice_where_the_best_place_is_free(logs: InstanceLogs, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError):
        logs.open_main(None, [(tmp_path / "missing" / "server.log", None)])
    assert logs.open_main(None, [(tmp_path / "server.log", None)]) is None


def test_groups_share_a_log_only_as_the_same_user(logs: InstanceLogs, tmp_path: Path) -> None:
    logs.open_main(None, [(tmp_path / "server.log", None)])
    before, after = identity("before"), identity("after")
    own = tmp_path / "shop.log"
    shop, forum = logs.open_for(group("shop", own), before), logs.open_for(group("forum", own), before)
    blog = logs.open_for(group("blog", own), after)
    assert shop is forum
    assert blog is not shop
    assert logs.open_for(group("wiki", None), before) is logs.main
    assert logs.open_for(group("news", tmp_path / "server.log"), None) is logs.main
    # The directory of an application was given to another user.
    assert logs.open_for(group("shop", own), after) is blog
    logs.forget("blog")
    assert "blog" not in logs.of_group


def test_a_log_that_cannot_be_written_is_replaced_by_the_main_one(logs: InstanceLogs, tmp_path: Path) -> None:
    logs.open_main(None, [(tmp_path / "server.log", None)])
    assert logs.open_for(group("shop", tmp_path / "missing" / "shop.log"), None) is logs.main
    assert "until then its lines are here" in (tmp_path / "server.log").read_text()
