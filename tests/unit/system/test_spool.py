"""spool.py: bytes that wait, in memory and on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.system.spool import Spool


@pytest.fixture(params=[0, 5, 1 << 20], ids=["disk", "both", "memory"])
def spool(request: pytest.FixtureRequest) -> Iterator[Spool]:
    """A spool that lives in memory, on disk, or moves from one to the other."""
    made = Spool(request.param)
    yield made
    made.close()


def test_bytes_come_out_in_order(spool: Spool) -> None:
    for piece in (b"one ", b"two ", b"three"):
        spool.write(piece)
    assert (len(spool), spool.peek(5)) == (13, b"one t")
    spool.take(4)
    assert (len(spool), spool.read_all()) == (9, b"two three")


def test_writing_and_taking_by_turns(spool: Spool) -> None:
    seen = b""
    for number in range(50):
        spool.write(b"%03d" % number)
        seen += spool.peek(2)
        spool.take(2)
    assert seen + spool.read_all() == b"".join(b"%03d" % number for number in range(50))


def test_the_whole_as_a_file(spool: Spool) -> None:
    spool.write(b"head and body")
    spool.take(5)
    fd, offset, length = spool.into_file()
    assert os.pread(fd, length + 1, offset) == b"and body"
    spool.write(b"!")
    assert spool.read_all() == b"and body!"


def test_an_empty_spool_starts_again(spool: Spool) -> None:
    spool.write(b"something")
    spool.take(9)
    assert (len(spool), spool.read_all()) == (0, b"")
    spool.write(b"other")
    assert spool.read_all() == b"other"


def test_memory_is_kept_up_to_its_limit() -> None:
    spool = Spool(5)
    seen = []
    for piece in (b"12345", b"6"):
        spool.write(piece)
        seen.append(spool._file is not None)
    assert seen == [False, True]
    assert spool.read_all() == b"123456"
    spool.close()


def test_what_was_taken_gives_its_room_on_disk_back() -> None:
    spool = Spool(0)
    for _ in range(10):
        spool.write(b"x" * 1000)
        spool.take(1000)
    fd, _, length = spool.into_file()
    assert (os.fstat(fd).st_size, length) == (0, 0)
    spool.close()


def test_the_file_has_no_name(tmp_path: Path) -> None:
    spool = Spool(0, str(tmp_path))
    spool.write(b"secret")
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_closing_gives_the_descriptor_back() -> None:
    spool = Spool(0)
    spool.write(b"x")
    fd, _, _ = spool.into_file()
    spool.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_full_disk_is_told_and_what_is_in_memory_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool = Spool(4)
    spool.write(b"1234")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        spool.write(b"5")
    assert (spool._file, spool.read_all()) == (None, b"1234")
    spool.close()


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Spool(0, str(tmp_path / "none")).write(b"x")


def test_short_writes_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    spool = Spool(0)
    spool.write(b"0123456789")
    assert spool.read_all() == b"0123456789"
    spool.close()


def test_what_fits_into_memory_never_touches_the_disk(tmp_path: Path) -> None:
    spool = Spool(100, str(tmp_path / "there-is-no-such-directory"))
    spool.write(b"0123456789")
    spool.take(2)
    fd, offset, length = spool.into_file()
    assert os.pread(fd, length, offset) == b"23456789"
    spool.close()


def test_after_a_write_that_failed_nothing_more_is_taken(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    spool = Spool(10, str(directory))
    with pytest.raises(FileNotFoundError):
        spool.write(b"x" * 11)
    directory.mkdir()
    with pytest.raises(FileNotFoundError):
        spool.write(b"y" * 11)
    assert list(directory.iterdir()) == []
