"""traceback_grouping.py: several writers, and each traceback in one piece."""

from __future__ import annotations

import pytest

from appsrv.logs.traceback_grouping import MAX_HELD_LINES, MAX_HELD_SECONDS, QUIET_SECONDS, Tracebacks, events

BEGINNING = "Traceback (most recent call last):"


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tracebacks = Tracebacks()

    def add(self, origin: str, line: str, now: float) -> None:
        self.tracebacks.add(origin, line, self.lines.extend, now)


def test_ordinary_lines_are_not_kept_back() -> None:
    log = Log()
    log.add("a", "hello", 0.0)
    assert log.lines == ["hello"]
    assert log.tracebacks.due == float("inf")


def test_two_at_a_time_do_not_mix() -> None:
    log = Log()
    for line in (BEGINNING, "  File 1", "KeyError: 1", "", "During handling", "", BEGINNING, "ValueError"):
        log.add("a", f"{line}", 0.0)
        log.add("b", f"{line} of b", 0.0)
        log.add("c", "meanwhile", 0.0)
    assert log.lines == ["meanwhile"] * 8
    log.tracebacks.emit_due(QUIET_SECONDS)
    assert log.lines[8:16] == [BEGINNING, "  File 1", "KeyError: 1", "", "During handling", "", BEGINNING, "ValueError"]
    assert all(line.endswith(" of b") for line in log.lines[16:])


def test_who_goes_on_writing_is_not_waited_for_forever() -> None:
    log = Log()
    log.add("a", BEGINNING, 0.0)
    for step in range(1, 40):
        log.add("a", "x", step * QUIET_SECONDS / 2)
        log.tracebacks.emit_due(step * QUIET_SECONDS / 2)
        if log.lines:
            assert step * QUIET_SECONDS / 2 >= MAX_HELD_SECONDS
            return
    raise AssertionError("nothing was said")


def test_many_lines_are_said_before_their_time() -> None:
    log = Log()
    for _ in range(MAX_HELD_LINES):
        log.add("a", BEGINNING, 0.0)
    assert len(log.lines) == MAX_HELD_LINES


def test_at_the_end_everything_is_said() -> None:
    log = Log()
    log.add("a", BEGINNING, 0.0)
    log.tracebacks.emit_all()
    assert log.lines == [BEGINNING]


def test_the_line_above_a_traceback_belongs_to_it() -> None:
    log = Log()
    log.tracebacks.add("a", "it failed", log.lines.extend, 0.0, more=True)
    log.add("b", "in between", 0.0)
    log.add("a", BEGINNING, 0.0)
    log.tracebacks.emit_all()
    assert log.lines == ["in between", "it failed", BEGINNING]


def test_what_comes_after_a_whole_traceback_stands_after_it() -> None:
    """The access line of a request that failed, which belongs to no request any more."""
    log = Log()
    for line in (BEGINNING, "  File 1", "KeyError: 1"):
        log.add("a", line, 0.0)
    for line in (BEGINNING, "  File 2"):
        log.add("b", line, 0.0)
    log.tracebacks.emit_complete(lambda origin: origin in ("a", "b"))
    log.add("", "GET / 500", 0.0)
    assert log.lines == [BEGINNING, "  File 1", "KeyError: 1", "GET / 500"], "the other one is still being written"


CHAINED = [
    *(BEGINNING, "  File 1", "KeyError: 1", "", "During handling of the above exception, another exception occurred:"),
    *("", BEGINNING, "  File 2", "ValueError: 2"),
]
GROUP = [
    "  + Exception Group Traceback (most recent call last):",
    *("  | ExceptionGroup: two", "  +-+---------------- 1 -----", "    | KeyError", "    +---------------- 2 -----"),
    *("    | ValueError", "    +------------------------------------"),
]


@pytest.mark.parametrize(
    "block", [CHAINED, GROUP, ["Fatal Python error: Segmentation fault", "", "Current thread 1:", "  File"]]
)
def test_a_traceback_is_one_event(block: list[str]) -> None:
    after = [] if block[0].startswith("Fatal") else [["after"], [""], ["much later"]]
    lines = [*block, *(line for event in after for line in event)]
    assert events(["before", *lines], [False] * (len(lines) + 1)) == [["before"], block, *after]


def test_what_was_printed_with_one_call_is_one_event() -> None:
    lines = ["ERROR:root:it failed", BEGINNING, "  File 1", "KeyError: a", "message of two lines", "next"]
    assert events(lines, [False, True, True, True, True, False]) == [lines[:5], lines[5:]]
