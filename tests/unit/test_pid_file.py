"""The pid file: never over a living appsrv or a file that is something else, always over a dead one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv import pid_file
from appsrv.errors import AlreadyRunning, RunDirectoryError


def sleeper(*arguments: str) -> subprocess.Popen[bytes]:
    code = "import sys; print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


@pytest.fixture
def appsrv() -> Iterator[int]:
    """The pid of a process that looks like one of ours."""
    with sleeper("appsrv") as child:
        yield child.pid
        child.kill()


@pytest.fixture
def stranger() -> Iterator[int]:
    with sleeper("something else") as child:
        yield child.pid
        child.kill()


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_write_read_remove(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pid_file.write(path, 4242)
    assert path.read_text() == "4242\n"
    assert pid_file.read(path) == 4242
    pid_file.remove(path, 4242)
    assert not path.exists()
    assert pid_file.read(path) is None


def test_a_living_appsrv_keeps_its_file(tmp_path: Path, appsrv: int) -> None:
    path = tmp_path / "pid"
    path.write_text(str(appsrv))
    with pytest.raises(AlreadyRunning, match=f"^appsrv is already running on PID {appsrv}.$") as caught:
        pid_file.write(path, 4242)
    assert (caught.value.pid, caught.value.exit_code) == (appsrv, 1)
    assert not pid_file.is_stale(path)


def test_a_dead_one_s_file_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{dead_pid()}\n")
    pid_file.write(path, 7)
    assert path.read_text() == "7\n"


def test_a_pid_that_another_program_has_now(tmp_path: Path, stranger: int) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{stranger}\n")
    assert pid_file.is_stale(path)
    pid_file.write(path, 7)
    assert pid_file.read(path) == 7


def test_our_own_pid_is_no_other_instance(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(str(os.getpid()))
    pid_file.write(path, os.getpid())


def test_a_file_that_is_no_pid_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("app = 1\n")
    with pytest.raises(RunDirectoryError, match="is not a pid file"):
        pid_file.write(path, 7)
    assert path.read_text() == "app = 1\n"


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.touch()
    pid_file.write(path, 7)
    assert pid_file.read(path) == 7


@pytest.mark.parametrize("place", ["nowhere/pid", "."])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        pid_file.write(tmp_path / place, 7)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "pid").symlink_to(tmp_path / "victim")
    with pytest.raises(RunDirectoryError):
        pid_file.write(tmp_path / "pid", 7)
    assert not (tmp_path / "victim").exists()


def test_another_s_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pid_file.write(path, 7)
    pid_file.remove(path, 8)
    assert path.exists()


def test_stale_files_in_the_usual_places(tmp_path: Path, appsrv: int) -> None:
    assert pid_file.stale(tmp_path) is None
    (tmp_path / "appsrv.8000.pid").write_text(str(appsrv))
    assert pid_file.stale(tmp_path) is None
    (tmp_path / "tmp/pids").mkdir(parents=True)
    (tmp_path / "tmp/pids/appsrv.9000.pid").write_text(str(dead_pid()))
    assert pid_file.stale(tmp_path) == tmp_path / "tmp/pids/appsrv.9000.pid"
