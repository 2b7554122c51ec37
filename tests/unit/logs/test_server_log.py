"""server_log.py: the server log's file, its terminal, and the way from the server to it."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from appsrv.errors import RunDirectoryError
from appsrv.logs import server_log as log
from appsrv.logs.line_splitter import LineSplitter
from appsrv.logs.log_format import JSON, PLAIN, TEXT, Origin, last_state
from appsrv.logs.server_log import ServerLog, from_server

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_that_was_overwritten_very_often_costs_no_time_to_speak_of() -> None:
    began = time.process_time()
    assert last_state("x" * 300_000 + "\ry" * 300_000) == "y" + "x" * 299_999
    assert time.process_time() - began < 2.0


def test_each_state_shows_where_later_ones_have_not_overwritten_it() -> None:
    assert last_state("abcdef\rxyz\r1") == "1yzdef"
    assert last_state("abcdef\rxyz\x1b[K\r1") == "1yz"
    assert last_state("abc\r\x1b[2K") == ""


def test_one_line_per_event_and_per_line_of_output(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    server_log = ServerLog(str(path), "info", None)
    server_log.event(logging.WARNING, "worker 1 ended")
    server_log.output(Origin("App", 4711, "stdout"), ["hello"])
    server_log.output(Origin("App", 4711, "stderr"), ["oh %s"])
    server_log.close()
    lines = path.read_text().splitlines()
    assert [re.sub(f"^{STAMP} ", "", line) for line in lines] == [
        "WARNING  worker 1 ended",
        "INFO     App 4711 stdout: hello",
        "INFO     App 4711 stderr: oh %s",
    ]


def test_every_line_of_an_event_is_a_line_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    server_log = ServerLog(str(path), "info", None)
    server_log.event(logging.ERROR, "Traceback:\n  File x")
    server_log.close()
    assert all(re.match(f"{STAMP} ERROR    ", line) for line in path.read_text().splitlines())


def test_a_name_cannot_forge_an_event(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    server_log = ServerLog(str(path), "info", None)
    server_log.event(logging.ERROR, "/apps/a\nworker 7 of /apps/b ended is not served: no application")
    server_log.close()
    assert [line[24:] for line in path.read_text().splitlines()] == [
        "ERROR    /apps/a",
        "ERROR      worker 7 of /apps/b ended is not served: no application",
    ]


def test_the_level_filters_events_but_never_output(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    server_log = ServerLog(str(path), "error", None)
    server_log.event(logging.WARNING, "not this")
    server_log.output(Origin("App", 1, "stdout"), ["but this"])
    server_log.close()
    assert path.read_text().endswith("App 1 stdout: but this\n")
    assert "not this" not in path.read_text()


def test_the_file_is_opened_again_when_it_was_moved(tmp_path: Path) -> None:
    path, moved = tmp_path / "server.log", tmp_path / "server.log.1"
    server_log = ServerLog(str(path), "info", None)
    server_log.event(logging.INFO, "before")
    path.rename(moved)
    server_log.event(logging.INFO, "after")
    server_log.close()
    assert moved.read_text().endswith("before\n")
    assert path.read_text().endswith("after\n")


def test_reopen_works_whether_or_not_it_was_moved(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    server_log = ServerLog(str(path), "info", None)
    server_log.reopen()
    path.rename(tmp_path / "old")
    server_log.reopen()
    assert path.read_text() == ""
    server_log.event(logging.INFO, "here")
    server_log.close()
    assert path.read_text().endswith("here\n")


def test_a_log_that_cannot_be_opened_again_loses_lines_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    home = tmp_path / "log"
    home.mkdir()
    server_log = ServerLog(str(home / "server.log"), "info", None)
    home.rename(tmp_path / "moved")
    server_log.event(logging.INFO, "lost")
    server_log.reopen()
    server_log.event(logging.INFO, "lost too")
    assert capsys.readouterr().err.count("cannot be written") == 1
    home.mkdir()
    server_log.event(logging.INFO, "kept")
    server_log.close()
    assert (home / "server.log").read_text().endswith("kept\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_costs_lines_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    terminal = io.StringIO()
    server_log = ServerLog("/dev/full", "info", terminal)
    for _ in range(3):
        server_log.event(logging.INFO, "x" * 10_000)
    server_log.reopen()
    server_log.event(logging.INFO, "last")
    server_log.close()
    assert "No space left" in capsys.readouterr().err
    assert terminal.getvalue().splitlines()[-1].endswith("last")


def test_an_unwritable_log_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"cannot write the server log .*--log-file"):
        ServerLog(str(tmp_path / "no" / "server.log"), "info", None)


def test_the_log_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    ServerLog(str(path), "info", None).close()
    assert path.stat().st_mode & 0o007 == 0


# -- the terminal


def shown(stream: io.StringIO, tmp_path: Path, *, plain: bool = False) -> str:
    """What a terminal shows of an event of each kind."""
    server_log = ServerLog(str(tmp_path / "server.log"), "info", stream, shown=PLAIN if plain else TEXT, quiet=plain)
    server_log.event(logging.INFO, "started")
    server_log.event(logging.ERROR, "failed")
    server_log.output(Origin("App", 1, "stdout"), ["printed"])
    server_log.close()
    return stream.getvalue()


def test_a_terminal_has_colours(tmp_path: Path) -> None:
    assert "\x1b[32mINFO" in shown(Terminal(), tmp_path)


def test_no_colour_where_it_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in shown(io.StringIO(), tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(Terminal(), tmp_path)


def test_a_plain_terminal_shows_output_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    assert shown(io.StringIO(), tmp_path, plain=True) == "printed\n"
    assert re.fullmatch(rf"{STAMP} ERROR    failed\n", errors.getvalue()), "appsrv itself speaks on stderr"


def test_plain_lines_are_the_bytes_that_were_written(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path, written = tmp_path / "server.log", b"caf\xe9 \x1b[31mred\0\r50%"
    with open(os.dup(1), "w", encoding="ascii") as stream:
        server_log = ServerLog(str(path), "info", stream, form=PLAIN, shown=PLAIN)
        server_log.output(Origin("App", 1, "stdout"), LineSplitter().feed(written + b"\n"))
        server_log.close()
    assert capfdbinary.readouterr().out == written + b"\n"
    assert path.read_bytes() == b"50%\xe9 red\0\n", "the file has what the terminal showed in the end"


def test_each_json_line_is_an_object(tmp_path: Path) -> None:
    path, terminal = tmp_path / "server.log", io.StringIO()
    server_log = ServerLog(str(path), "info", terminal, form=JSON, shown=JSON)
    server_log.event(logging.ERROR, "failed\nTraceback\n  File")
    server_log.output(Origin("App", 7, "stderr", "id-1 GET /a b"), ["Traceback", "  File x", 'KeyError: "\udcff"\0'])
    forged = '"time": "", "level": "ERROR", "pid": 1, "stream": "a"'
    server_log.output(Origin("App", 7, "access"), [f'{{"status": 200, "agent": "x", {forged}}}'])
    server_log.output(Origin("Server", 6, "access"), ["{not json"])
    server_log.close()
    assert path.read_text() == terminal.getvalue()
    own, output, access, other = map(json.loads, path.read_text().splitlines())
    assert (own["level"], own["stream"], own["pid"]) == ("ERROR", "appsrv", None)
    assert own["text"] == "failed\nTraceback\n  File"
    time = output.pop("time")
    assert datetime.fromisoformat(time).tzinfo is not None
    assert output == {
        "level": "INFO", "pid": 7, "stream": "stderr", "request_id": "id-1", "method": "GET", "path": "/a b",
        "text": 'Traceback\n  File x\nKeyError: "\\xff"\0',
    }
    assert (access["status"], access["agent"], "text" in access) == (200, "x", False)
    assert (access["level"], access["pid"], access["stream"]) == ("INFO", 7, "access"), "not forged"
    assert datetime.fromisoformat(access["time"]).tzinfo is not None
    assert (other["stream"], other["text"]) == ("access", "{not json")


def test_a_terminal_that_has_gone_loses_nothing(tmp_path: Path) -> None:
    for plain in (False, True):
        stream = io.StringIO()
        stream.close()
        form = PLAIN if plain else TEXT
        server_log = ServerLog(str(tmp_path / "server.log"), "info", stream, shown=form, quiet=plain)
        server_log.output(Origin("App", 1, "stdout"), ["kept"])
        server_log.close()
    assert (tmp_path / "server.log").read_text().count("kept") == 2


# -- from the server


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("INFO worker 1 is ready", (logging.INFO, "worker 1 is ready")),
        ("ERROR ", (logging.ERROR, "")),
        ("Traceback (most recent call last):", (logging.ERROR, "Traceback (most recent call last):")),
        ("NOTSET x", (logging.ERROR, "NOTSET x")),
        ("", (logging.ERROR, "")),
    ],
)
def test_lines_of_the_server(line: str, meant: tuple[int, str]) -> None:
    assert from_server(line) == meant


@pytest.mark.process
def test_the_server_writes_what_the_watchdog_reads() -> None:
    code = """
import logging
from appsrv.logs.server_log import to_watchdog
to_watchdog("info")
logging.getLogger("appsrv.x").debug("no")
logging.getLogger("appsrv.x").info("two\\nlines")
try: 1 / 0
except ZeroDivisionError: logging.exception("failed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    read = [from_server(line) for line in done.stdout.splitlines()]
    assert read[0] == (logging.INFO, "two\nlines")
    level, text = read[1]
    assert level == logging.ERROR
    assert text.startswith("failed\nTraceback (most recent call last):\n  File")
    assert text.endswith("\nZeroDivisionError: division by zero")
    assert log.LEVELS


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(RunDirectoryError):
        ServerLog(str(tmp_path / "log"), "info", None, blocks=False)
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    log = ServerLog(str(tmp_path / "log"), "info", None, blocks=False)
    for number in range(2000):
        log.output(Origin("App", 1, "stdout"), [f"{number:0100}"])
    assert b"App 1 stdout: 000" in os.read(reader, 65536)
    log.close()
    os.close(reader)
