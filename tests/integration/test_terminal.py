"""appsrv on a real pseudo-terminal: what a person does there never stops what is being served."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from integration.conftest import Launch
from support.on_terminal import OnTerminal
from support.server import COMMAND, Site, free_port
from support.waiting import wait_for

STOP_OUTPUT, GO_ON = b"\x13", b"\x11"


@pytest.fixture
def on_terminal(site: Site) -> Iterator[OnTerminal]:
    site.add_app("printing")
    port = free_port()
    argv = [COMMAND, "start", "printing:application", "--port", str(port), "--max-pool-size", "1"]
    server = OnTerminal(site, argv, ("127.0.0.1", port))
    server.wait_ready()
    yield server
    left = server.reap()
    os.close(server.keyboard)
    assert left == []


def test_a_stopped_terminal_stops_nothing(on_terminal: OnTerminal) -> None:
    server = on_terminal
    wait_for(lambda: "Accessible via" in server.terminal, "the banner")
    os.write(server.keyboard, STOP_OUTPUT)
    for round in range(3):
        server.get(f"/many?round-{round}")
    server.wait_log("stdout: round-2 1999$")
    victim = min(server.worker_pids())
    os.kill(victim, signal.SIGKILL)
    server.wait_log(rf"worker {victim} .* ended: killed by SIGKILL")
    assert server.get("/print?still-here").status == 200
    os.write(server.keyboard, GO_ON)
    wait_for(lambda: "still-here" in server.terminal, "what was held back")
    assert "round-1 1234" in server.terminal


def test_started_with_its_streams_closed(launch: Launch, site: Site) -> None:
    site.add_app("printing")
    port = free_port()
    command = f"exec {COMMAND} start printing:application --port {port} <&- >&- 2>&-"
    server = launch(["sh", "-c", command], ("127.0.0.1", port)).wait_ready()
    assert server.get("/print?nobody-sees-it").status == 200
    server.wait_log("stdout: nobody-sees-it$")


def test_a_stop_does_not_wait_for_a_stopped_terminal(on_terminal: OnTerminal) -> None:
    server = on_terminal
    os.write(server.keyboard, STOP_OUTPUT)
    server.get("/many?line")
    server.wait_log("stdout: line 1999$")
    assert server.stop(seconds=10) == 0


def test_a_terminal_that_takes_nothing_for_long_costs_lines_and_says_how_many(on_terminal: OnTerminal) -> None:
    server = on_terminal
    wait_for(lambda: "Accessible via" in server.terminal, "the banner")
    os.write(server.keyboard, STOP_OUTPUT)
    for round in range(12):
        server.get(f"/many?{'x' * 40}-{round}")
    server.wait_log("-11 1999$")
    os.write(server.keyboard, GO_ON)
    wait_for(lambda: "lines dropped" in server.terminal, "the notice")
