"""The run directory is looked after: what is missing is made again, what is there is left alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.instance import kept_directory
from appsrv.instance.kept_directory import KeptDirectory
from appsrv.instance.run_directory import InstanceDirectory, InstanceInfo, is_alive

OLD = 1_000_000_000.0


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[InstanceDirectory]:
    monkeypatch.setattr("appsrv.instance.kept_directory.stack_dump.listen", lambda _: None)
    # Not pytest's directory: the path of a unix socket may have 107 characters at most.
    with tempfile.TemporaryDirectory() as base:
        made = InstanceDirectory.create(Path(base) / "run", "/srv/shop", "127.0.0.1:8000")
        made.write(info(made))
        yield made
        made.close()


def info(directory: InstanceDirectory) -> InstanceInfo:
    pid_file = str(directory.pid_file)
    return InstanceInfo(directory.name, os.getpid(), "1", "/srv/shop", "app", "production", (), pid_file, None, 0.0)


def test_what_is_there_is_left_alone(directory: InstanceDirectory) -> None:
    logged: list[str] = []
    kept = KeptDirectory(directory, lambda: info(directory), lambda _, text: logged.append(text))
    directory.admin_socket.touch()
    before = directory.lock_fd
    assert kept.check() is None
    assert kept.check() is None
    assert (directory.lock_fd, logged) == (before, [])


def test_a_missing_admin_socket_is_replaced_when_it_is_missed_twice(directory: InstanceDirectory) -> None:
    logged: list[str] = []
    kept = KeptDirectory(directory, lambda: info(directory), lambda _, text: logged.append(text))
    assert kept.check() is None, "the server has not made it yet"
    directory.admin_socket.touch()
    assert kept.check() is None
    directory.admin_socket.unlink()
    assert kept.check() is None, "a server that starts replaces it"
    made = kept.check()
    assert made is not None
    made.close()
    assert len(logged) == 1
    assert kept.check() is None


def test_lock_description_and_pid_file_come_back(directory: InstanceDirectory) -> None:
    logged: list[str] = []
    kept = KeptDirectory(directory, lambda: info(directory), lambda _, text: logged.append(text))
    shutil.rmtree(directory.path.parent)
    directory.path.parent.write_text("in the way")
    assert kept.check() is None
    assert kept.check() is None
    assert len(logged) == 1, "logged once"
    directory.path.parent.unlink()
    made = kept.check()
    assert made is not None
    made.close()
    assert is_alive(directory.path)
    assert directory.pid_file.read_text() == f"{os.getpid()}\n"
    assert (directory.path / "instance.json").exists()


def test_the_files_are_made_new_once_an_hour(directory: InstanceDirectory) -> None:
    now = 1000.0
    kept = KeptDirectory(directory, lambda: info(directory), lambda *_: None, lambda: now)
    os.utime(directory.path / "lock", (OLD, OLD))
    kept.check()
    assert (directory.path / "lock").stat().st_mtime == OLD
    now += kept_directory.TOUCH_INTERVAL_SECONDS
    kept.check()
    assert (directory.path / "lock").stat().st_mtime > OLD
