"""reader.py: what lines say, which are wanted, and a file that is rotated while it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appsrv.errors import OperatorError
from appsrv.logs.reader import Criteria, LogLine, follow, last, parse, since

NOW = datetime(2026, 1, 31, 12, 0, 0)
LINES = """\
2026-01-31 11:00:00.001 INFO     worker 17 of /srv/shop is ready (generation 1)
2026-01-31 11:30:00.002 INFO     [ab12-7 GET /orders] App 17 stdout: one
2026-01-31 11:30:00.003 INFO     [ab12-8 GET /orders] App 18 stdout: two
2026-01-31 11:40:00.004 INFO     App 17 stderr: Error ab12-7 in GET /orders
2026-01-31 11:50:00.005 ERROR    worker 17 of /srv/shop ended: exit code 1
what is this
""".splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "appsrv.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_what_a_line_says() -> None:
    line = parse(LINES[1] + "\n")
    assert line == LogLine(
        raw=LINES[1], time="2026-01-31 11:30:00.002", level="INFO", request="ab12-7", method="GET", path="/orders",
        pid=17, stream="stdout", text="one",
    )
    assert parse(LINES[4]).text == "worker 17 of /srv/shop ended: exit code 1"
    assert parse(LINES[5]) == LogLine(raw=LINES[5], text=LINES[5])


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Criteria(), [0, 1, 2, 3, 4, 5]),
        (Criteria(request="ab12-7"), [1, 3]),
        (Criteria(request="ab12"), []),
        (Criteria(worker=17), [0, 1, 3, 4]),
        (Criteria(worker=1), []),
        (Criteria(since=since("15m", NOW)), [4, 5]),
        (Criteria(since=since("2026-01-31 11:30", NOW), worker=18), [2]),
    ],
)
def test_which_are_wanted(log: Path, wanted: Criteria, numbers: list[int]) -> None:
    assert [line.raw for line in last(log, wanted, None)] == [LINES[number] for number in numbers]


def test_the_last_ones(log: Path) -> None:
    assert [line.raw for line in last(log, Criteria(worker=17), 2)] == [LINES[3], LINES[4]]
    assert last(log, Criteria(), 0) == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be read"):
        last(tmp_path / "none", Criteria(), None)


@pytest.mark.parametrize("text", ["soon", "10x", "2026-13-01", "999999d", "99999999999d"])
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        since(text, NOW)


def test_a_time_that_says_where() -> None:
    here = since("2026-01-31 11:30", NOW)
    there = datetime.fromisoformat("2026-01-31 11:30").astimezone(timezone(timedelta(hours=-7))).isoformat()
    assert since(there, NOW) == here


def test_a_line_is_one_whatever_the_application_prints_into_it(log: Path) -> None:
    progress = "2026-01-31 11:50:00.006 INFO     App 17 stdout: 10 %\r20 %\x0b\x85\u202830 %"
    log.write_bytes(f"{progress}\n".encode())
    assert [line.raw for line in last(log, Criteria(worker=17), None)] == [progress]


def following(log: Path, *events: Callable[[], object]) -> Iterator[str]:
    """What is read while these happen, one at each pause."""
    waiting = iter(events)
    for line in follow(log, Criteria(), 0, sleep=lambda _: next(waiting)()):
        yield line.raw


def append(path: Path, text: str | bytes) -> Callable[[], object]:
    def do() -> None:
        with path.open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    return do


def test_follow(log: Path) -> None:
    old = log.with_suffix(".1")
    read = following(
        log,
        append(log, "a\n"),
        append(log, "b, in"),
        append(log, " two pieces\n"),
        lambda: log.rename(old),
        append(old, "c, by one who has it open still\n"),
        append(log, "d\n"),
        lambda: None,
        lambda: log.write_text(""),
        append(log, "e\n"),
    )
    assert [next(read) for _ in range(5)] == [
        "a", "b, in two pieces", "c, by one who has it open still", "d", "e",
    ]


def test_half_a_character_is_waited_for(log: Path) -> None:
    whole = "fünf".encode()
    read = following(log, append(log, whole[:2]), append(log, whole[2:] + b"\n"), append(log, "sechs\n"))
    assert [next(read) for _ in range(2)] == ["fünf", "sechs"]


def test_what_was_half_written_when_the_file_was_emptied_is_no_beginning(log: Path) -> None:
    read = following(log, append(log, "half a "), lambda: log.write_text(""), append(log, "line\n"))
    assert next(read) == "line"


def test_lines_in_json() -> None:
    raw = json.dumps({
        "time": datetime.fromisoformat("2026-01-31T11:30:00.002").astimezone().isoformat(), "level": "INFO", "pid": 17,
        "stream": "stderr", "request_id": "ab-1", "method": "GET", "path": "/a", "text": "Traceback\n  File",
    })
    line = parse(raw + "\n")
    shown = "2026-01-31 11:30:00.002 INFO     [ab-1 GET /a] App 17 stderr: "
    assert line.raw == f"{shown}Traceback\n{shown}  File"
    assert line.to_json() == {
        "time": "2026-01-31 11:30:00.002", "level": "INFO", "request": "ab-1", "method": "GET", "path": "/a",
        "pid": 17, "stream": "stderr", "text": "Traceback\n  File",
    }
    access = parse(raw.replace('"text"', '"status"').replace("stderr", "access"))
    assert (access.stream, access.request) == ("access", "ab-1")
    assert '"status": "Traceback' in access.text
    for other in ('{"time": 1}', '{"text": "an object of the application"}', "{", '{"time": "x", "stream": "appsrv"}'):
        assert parse(other) == LogLine(raw=other, text=other)


def test_a_line_without_a_time_is_as_old_as_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "plain.log"
    path.write_text(
        "first\n2026-01-31 11:00:00.000 INFO     old\nprinted then\n2026-01-31 11:45:00.000 INFO     new\nprinted now\n"
    )
    found = [line.raw for line in last(path, Criteria(since="2026-01-31 11:30:00.000"), None)]
    assert found == ["2026-01-31 11:45:00.000 INFO     new", "printed now"]
