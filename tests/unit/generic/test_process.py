"""What can be told of a command without running it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appsrv.app_process import own_lines
from appsrv.generic import process as upstream


@pytest.mark.parametrize(
    ("command", "yes"),
    [
        ("puma -b unix://$SOCKET", True),
        ("uvicorn a:b --uds ${SOCKET}", True),
        ('daphne -u "$SOCKET" a:b', True),
        ("node server.js", False),
        ("node server.js $SOCKETS", False),
        ("node server.js $PORT", False),
    ],
)
def test_which_commands_listen_on_a_socket(command: str, yes: bool) -> None:
    assert upstream.wants_socket(command) is yes


@pytest.mark.parametrize("command", ["node server.js", "puma -b unix://$SOCKET", "/opt/app --a='b c' >out.log 2>out"])
def test_a_single_command_takes_the_place_of_its_shell(command: str) -> None:
    assert upstream.shell_line(f" {command} ") == f"exec {command}"


@pytest.mark.parametrize(
    "command",
    [
        *("cd app && node a.js", "a; b", "A=1 node a.js", "exec node a.js", "if true; then a; fi", "{ a; }", "(a)"),
        *("a | b", "! a", ""),
    ],
)
def test_anything_else_is_the_shells(command: str) -> None:
    assert upstream.shell_line(command) == command


def test_long_commands_are_shown_in_one_short_line() -> None:
    assert upstream.shown("node\n  server.js") == "node server.js"
    assert len(upstream.shown("x" * 200)) == 80


def test_a_free_port_is_free_and_of_no_outgoing_connection() -> None:
    port, claim = upstream.free_port()
    assert port in upstream.PORT_RANGE
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
    assert claim is not None
    claim.close()


@pytest.mark.skipif(sys.platform != "linux", reason="there are no abstract names elsewhere")
def test_no_other_worker_is_given_a_port_on_which_nobody_listens_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    port, claim = upstream.free_port()
    assert claim is not None
    monkeypatch.setattr(upstream, "PORT_RANGE", range(port, port + 1))
    other, none = upstream.free_port()
    assert other != port
    assert none is None
    claim.close()
    again, claim = upstream.free_port()
    assert again == port
    assert claim is not None
    claim.close()


def test_answers_of_a_process_that_has_ended_are_read_before_its_worker_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_lines, "complain", lambda _text: None)
    happened: list[str] = []
    process = upstream.UpstreamProcess(
        "x", root=str(tmp_path), directory=str(tmp_path), environ={}, start_timeout=1.0, stop_timeout=1.0
    )
    process._process = cast("Any", SimpleNamespace(returncode=0))
    process.connections = cast("Any", SimpleNamespace(drain=lambda _seconds: happened.append("read")))
    monkeypatch.setattr(process, "end_worker_like_it", lambda: happened.append("ended"))
    process._ended.set()
    process._end_worker_after_it(lambda: happened.append("said"))
    assert happened == ["read", "said", "ended"]
