"""The pid file: never over that of a living instance or a file that is something else, always over a dead one's."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.errors import AlreadyRunning, RunDirectoryError
from appsrv.instance import pid_file
from appsrv.instance.pid_file import PidFile


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that is no instance, with our name in its command line."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", code, "appsrv", "appsrv watchdog"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_take_read_remove(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    ours = PidFile.take(path, 4242)
    assert (path.read_text(), pid_file.read(path), ours.notice) == ("4242\n", 4242, "")
    assert not pid_file.is_stale(path)
    ours.remove()
    assert not path.exists()
    assert pid_file.read(path) is None


@pytest.mark.process
def test_a_living_instance_keeps_its_file(tmp_path: Path) -> None:
    """Its lock proves that it lives, whatever its number."""
    path = tmp_path / "pid"
    number = dead_pid()
    theirs = PidFile.take(path, number)
    with pytest.raises(AlreadyRunning, match=f"^appsrv is already running on PID {number}.$") as caught:
        PidFile.take(path, 4242)
    assert (caught.value.pid, caught.value.exit_code) == (number, 1)
    assert not pid_file.is_stale(path)
    theirs.remove()
    assert PidFile.take(path, 4242).path == path


def test_without_locks_the_instances_with_that_file_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "pid"
    path.write_text("4242\n")
    with pytest.raises(AlreadyRunning):
        PidFile.take(path, 7, {4242})
    PidFile.take(path, 7, {4243})
    assert pid_file.read(path) == 7


@pytest.mark.process
def test_a_dead_one_s_file_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{dead_pid()}\n")
    assert pid_file.is_stale(path)
    assert PidFile.take(path, 7).notice == ""
    assert path.read_text() == "7\n"


@pytest.mark.process
def test_a_pid_that_another_program_has_now(tmp_path: Path, stranger: int) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{stranger}\n")
    assert pid_file.is_stale(path)
    assert f"named process {stranger}, which is not an instance" in PidFile.take(path, 7).notice
    assert pid_file.read(path) == 7


def test_our_own_pid_is_no_other_instance(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(str(os.getpid()))
    assert PidFile.take(path, os.getpid()).notice == ""


@pytest.mark.parametrize("content", [b"12 34\n", b"\x93NUMPY", b"-1", b"99999999999", b"4000000000", b"0"])
def test_garbage_in_a_pid_file_is_taken_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shop.pid"
    path.write_bytes(content)
    assert "held no process id" in PidFile.take(path, 7).notice
    assert path.read_text() == "7\n"


@pytest.mark.parametrize(("name", "content"), [("app.py", "app = 1\n"), ("shop.pid", "1\n" * 4096)])
def test_a_file_that_is_no_pid_file_is_left_alone(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(RunDirectoryError, match="is not a pid file"):
        PidFile.take(path, 7)
    assert path.read_text() == content


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 32])
def test_an_empty_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    """NULs are what some file systems leave of a file that was written just before the power failed."""
    path = tmp_path / "pid"
    path.write_bytes(content)
    assert PidFile.take(path, 7).notice == ""
    assert path.read_text() == "7\n"


@pytest.mark.parametrize("place", ["nowhere/pid", "."])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        PidFile.take(tmp_path / place, 7)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "pid").symlink_to(tmp_path / "victim")
    with pytest.raises(RunDirectoryError):
        PidFile.take(tmp_path / "pid", 7)
    assert not (tmp_path / "victim").exists()


def test_another_s_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    ours = PidFile.take(path, 7)
    path.unlink()
    path.write_text("8\n")
    ours.remove()
    assert path.read_text() == "8\n"


@pytest.mark.process
def test_stale_files_in_the_usual_places(tmp_path: Path) -> None:
    assert pid_file.stale(tmp_path) is None
    ours = PidFile.take(tmp_path / "appsrv.8000.pid", os.getpid())
    assert pid_file.stale(tmp_path) is None
    (tmp_path / "tmp/pids").mkdir(parents=True)
    (tmp_path / "tmp/pids/appsrv.9000.pid").write_text(str(dead_pid()))
    assert pid_file.stale(tmp_path) == tmp_path / "tmp/pids/appsrv.9000.pid"
    ours.remove()
