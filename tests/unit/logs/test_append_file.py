"""append_file.py: appended by many, moved away, made impossible; whoever writes never notices."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from appsrv.errors import RunDirectoryError
from appsrv.logs import append_file
from appsrv.logs.append_file import AppendFile, check_writable


class Writer(AppendFile):
    """One that remembers its complaints."""

    def __init__(self, path: Path) -> None:
        self.complaints: list[str] = []
        super().__init__(str(path), self.complaints.append)


@pytest.fixture
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_file, "CHECK_INTERVAL_SECONDS", 0.0)


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    one, other = Writer(path), Writer(path)
    one.write("1")
    other.write("2")
    one.write("3 é")
    assert path.read_text(encoding="utf-8") == "before\n1\n2\n3 é\n"


def test_others_cannot_read_it(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        Writer(tmp_path / "access.log")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "access.log").stat().st_mode) == 0o640


def test_moved_away(tmp_path: Path, always_look: None) -> None:
    path = tmp_path / "access.log"
    writer = Writer(path)
    writer.write("old")
    path.rename(tmp_path / "access.log.1")
    writer.write("new")
    path.unlink()
    writer.write("newer")
    assert ((tmp_path / "access.log.1").read_text(), path.read_text()) == ("old\n", "newer\n")
    assert writer.complaints == []


def test_reopened_at_once_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = Writer(path)
    writer.write("old")
    path.rename(tmp_path / "access.log.1")
    writer.write("old, too: nobody has looked yet")
    writer.reopen()
    writer.write("new")
    assert path.read_text() == "new\n"
    assert (tmp_path / "access.log.1").read_text().count("\n") == 2


def test_directory_gone_and_back(tmp_path: Path, always_look: None) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    writer = Writer(directory / "access.log")
    moved = tmp_path / "moved"
    directory.rename(moved)
    for n in range(3):
        writer.write(str(n))
    assert (moved / "access.log").read_text() == "0\n1\n2\n"
    directory.mkdir()
    writer.write("3")
    writer.write("4")
    assert (directory / "access.log").read_text() == "3\n4\n"
    assert [text.split(": ")[-1] for text in writer.complaints] == ["No such file or directory", "0"]


def test_never_there(tmp_path: Path, always_look: None) -> None:
    writer = Writer(tmp_path / "log" / "access.log")
    writer.write("lost")
    writer.write("lost")
    (tmp_path / "log").mkdir()
    writer.write("kept")
    assert (tmp_path / "log" / "access.log").read_text() == "kept\n"
    assert writer.complaints[1:] == [f"the access log {tmp_path}/log/access.log is written again; lines lost: 2"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is full")
def test_a_full_disk_is_complained_about_once() -> None:
    writer = Writer(Path("/dev/full"))
    for n in range(100):
        writer.write(str(n))
    assert writer.complaints == ["the access log /dev/full cannot be written: No space left on device"]


def test_a_line_cut_off_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    writer = Writer(path)
    write = os.write

    def write_a_part(fd: int, data: bytes) -> int:
        return write(fd, data[:3])

    monkeypatch.setattr(os, "write", write_a_part)
    writer.write("cut off")
    monkeypatch.undo()
    writer.write("whole")
    writer.write("whole, too")
    assert path.read_text() == "cut\nwhole\nwhole, too\n"
    assert [text.split(": ")[-1] for text in writer.complaints] == ["No space left on device", "1"]


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = Writer(tmp_path / "pipe")
    writer.write("lost")
    assert len(writer.complaints) == 1


def test_many_threads_while_it_is_moved(tmp_path: Path, always_look: None) -> None:
    path = tmp_path / "access.log"
    writer = Writer(path)

    def write(name: int) -> None:
        for n in range(300):
            writer.write(f"{name} {n}")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for n in range(20):
        path.rename(tmp_path / f"access.log.{n}") if path.exists() else None
        writer.reopen()
    for thread in threads:
        thread.join()
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name} {n}" for name in range(4) for n in range(300))
    assert writer.complaints == []


def test_a_place_that_cannot_be_written_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"cannot write the access log .*: No such file or directory"):
        check_writable(str(tmp_path / "none" / "access.log"))
    check_writable(str(tmp_path / "access.log"))
    shutil.rmtree(tmp_path)
