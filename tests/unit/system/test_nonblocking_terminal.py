"""nonblocking_terminal.py: writing to what takes nothing."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator

import pytest

from appsrv.system.nonblocking_terminal import Terminal, nonblocking_output


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_until(fd: int, end: bytes) -> bytes:
    read = b""
    while not read.endswith(end):
        read += os.read(fd, 1 << 16)
    return read


def test_everything_arrives_in_order(pipe: tuple[int, int]) -> None:
    terminal = Terminal()
    for number in range(1000):
        terminal.write(pipe[1], b"%d\n" % number)
    terminal.close()
    assert read_until(pipe[0], b"\n999\n").split() == [b"%d" % number for number in range(1000)]


def test_what_has_no_room_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    """A pipe holds 64 KiB: the writer is stuck in the first piece, the queue takes one more."""
    terminal = Terminal(room=300_000)
    piece = b"x" * 99_999 + b"\n"
    for _ in range(7):
        terminal.write(pipe[1], piece)
    read = read_until(pipe[0], b"in the log.\n")
    assert read.count(b"x\n") == 3
    assert b"4 lines dropped" in read
    terminal.close()


def test_the_end_does_not_wait_for_one_that_takes_nothing(pipe: tuple[int, int]) -> None:
    terminal = Terminal()
    terminal.write(pipe[1], b"x" * 100_000)
    terminal.close(timeout=0.01)
    # All of it, so that the thread does not write to whatever has the descriptor's number next.
    left = 100_000
    while left:
        left -= len(os.read(pipe[0], left))


def test_a_stream_that_is_closed_stays_so(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.FileIO(pipe[1], "w", closefd=False), encoding="utf-8"))
    with nonblocking_output():
        assert sys.stdout is None
        sys.stderr.write("error\n")
    assert read_until(pipe[0], b"error\n") == b"error\n"


def test_one_that_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    terminal = Terminal()
    terminal.write(write, b"to nobody\n")
    terminal.close()
    os.close(write)


def test_print_goes_there_and_back(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.FileIO(pipe[1], "w", closefd=False), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with nonblocking_output():
        assert not sys.stdout.isatty()
        sys.stdout.write("caf\u00e9\n")
        sys.stderr.write("error\n")
    assert sys.stdout is stream
    assert read_until(pipe[0], b"error\n") == b"caf\\xe9\nerror\n"
