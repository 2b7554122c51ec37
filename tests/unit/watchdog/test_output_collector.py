"""output_collector.py: what is remembered of what processes print."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.logs.server_log import ServerLog
from appsrv.watchdog.output_collector import KEPT_LINES, KEPT_PROCESSES, Collector


class Ears:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = ServerLog(str(path), "info", None)
        self.selector = selectors.DefaultSelector()
        self.collector = Collector(self.selector, self.log, time.monotonic)

    def process(self, pid: int, *, is_server: bool = False) -> tuple[int, int]:
        """The write ends of the pipes of a new process."""
        out, err = os.pipe(), os.pipe()
        self.collector.collect(pid, (out[0], err[0]), None if is_server else self.log)
        return out[1], err[1]

    def hear(self) -> None:
        while events := self.selector.select(0):
            for key, _ in events:
                key.data()


@pytest.fixture
def ears(tmp_path: Path) -> Iterator[Ears]:
    ears = Ears(tmp_path / "server.log")
    yield ears
    ears.selector.close()
    ears.log.close()


def test_the_last_lines_of_both_streams(ears: Ears) -> None:
    out, err = ears.process(7)
    for number in range(30):
        os.write(out, b"line %d\n" % number)
    ears.hear()
    os.write(err, b"last words, without an end")
    lines = ears.collector.last_lines(7)
    assert len(lines) == KEPT_LINES
    assert lines[-2:] == ["line 29", "last words, without an end"], "what nobody has read yet is among them"
    assert "App 7 stderr: last words" in ears.path.read_text()
    os.close(out)
    os.close(err)
    ears.hear()
    assert ears.collector.last_lines(7) == lines, "they outlive the pipes"


def test_of_a_fatal_error_the_top_of_the_stack_counts(ears: Ears) -> None:
    out, err = ears.process(7)
    os.write(out, b"".join(b"line %d\n" % number for number in range(30)))
    ears.hear()
    os.write(err, b"Fatal Python error: Segmentation fault\n" + b"".join(b"frame %d\n" % n for n in range(40)))
    lines = ears.collector.last_lines(7)
    assert lines[4:7] == ["line 29", "Fatal Python error: Segmentation fault", "frame 0"]
    assert len(lines) == KEPT_LINES
    os.close(out)
    os.close(err)


def test_those_of_processes_that_ended_long_ago_are_forgotten(ears: Ears) -> None:
    for pid in range(1, KEPT_PROCESSES + 3):
        out, err = ears.process(pid)
        os.write(out, b"x\n")
        os.close(out)
        os.close(err)
        ears.hear()
    assert not ears.collector.knows(1)
    assert ears.collector.last_lines(1) == []
    assert ears.collector.last_lines(KEPT_PROCESSES + 2) == ["x"]


def test_the_server_speaks_for_itself(ears: Ears) -> None:
    out, err = ears.process(8, is_server=True)
    os.write(out, b"WARNING all is not well\n")
    os.write(err, b"Traceback\n")
    ears.collector.finish()
    text = ears.path.read_text()
    assert "WARNING  all is not well" in text
    assert "INFO     App 8 stderr: Traceback" in text
    os.close(out)
    os.close(err)
