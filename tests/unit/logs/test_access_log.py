"""access_log.py and worker/access_log.py: what is gathered for a line, and that a log in trouble is nobody else's."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from appsrv.http.response import error_response
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.logs.access_log import AccessLog
from appsrv.net.arrival_time import StampedSocket
from appsrv.worker.access_log import WorkerAccessLog
from appsrv.worker.ready_queue import Connection
from appsrv.wsgi.run import ResponseOutcome

ENVIRON: dict[str, Any] = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1"}


class Lines:
    """A destination that keeps lines, or is in trouble."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.reopened = 0
        self.trouble: Exception | None = None

    def write(self, line: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.lines.append(json.loads(line))

    def reopen(self) -> None:
        self.reopened += 1


class World:
    """A worker's log over a board, with one connection."""

    def __init__(self) -> None:
        self.to = Lines()
        self.complaints: list[str] = []
        self.framework: list[tuple[int, int]] = []
        self.board = Scoreboard.create(1, 1)
        self.slot = self.board.slot(0)
        log = AccessLog("json", self.to, self.complaints.append)
        self.log = WorkerAccessLog(log, self._framework_says, self.board, self.slot.reopen_asked)
        self.client, accepted = socket.socketpair()
        self.sock = StampedSocket(accepted.detach())
        self.connection = Connection(7, self.sock, "192.0.2.1", "9", 0, None, None)

    def _framework_says(self, environ: dict[str, Any], status: int, size: int, started: float) -> None:
        self.framework.append((status, size))

    def answer(self, ago: float = 0.0, status: int = 200) -> dict[str, Any]:
        outcome = ResponseOutcome(keep_alive=True)
        outcome.status, outcome.body_bytes = status, 5
        self.log.answered(self.connection, dict(ENVIRON), outcome, time.time() - ago)
        return self.to.lines[-1]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.client.close()
    world.sock.close()


def test_times(world: World) -> None:
    world.sock.arrived = time.time() - 3.0
    line = world.answer(ago=1.0)
    assert line["service_time"] == pytest.approx(1.0, abs=0.5)
    assert line["queue_time"] == pytest.approx(2.0, abs=0.5)
    assert world.framework == [(200, 5)]


def test_the_time_of_what_was_read_along_is_not_known(world: World) -> None:
    world.sock.arrived = time.time()
    assert world.answer()["queue_time"] is not None
    assert world.answer()["queue_time"] is None


def test_since_it_was_handed_over_where_the_kernel_says_nothing(world: World) -> None:
    world.board.park(7, -(time.monotonic() - 3.0))
    assert world.answer(ago=1.0)["queue_time"] == pytest.approx(2.0, abs=0.5)
    world.board.park(7, time.monotonic() - 3.0)
    assert world.answer()["queue_time"] is None


def test_a_clock_that_was_set_back_makes_no_negative_times(world: World) -> None:
    world.sock.arrived = time.time() + 200
    line = world.answer(ago=-100)
    assert (line["service_time"], line["queue_time"]) == (0.0, 0.0)


def test_a_client_that_left_first(world: World) -> None:
    assert world.answer(status=0)["status"] == 499


def test_reopened_before_the_next_line_when_the_server_asked(world: World) -> None:
    world.answer()
    world.slot.reopen_logs()
    world.answer()
    world.log.refused(world.connection, b"GET /bad\r\n\r\n", error_response(400))
    assert world.to.reopened == 1
    world.slot.reopen_logs()
    world.log.refused(world.connection, b"", error_response(400))
    assert world.to.reopened == 2


def test_refused_requests(world: World) -> None:
    page = error_response(502, error_id="abc")
    world.log.refused(world.connection, b"\r\nGET /a HTTP/1.1\r\nHost: b\r\n", page)
    line = world.to.lines[-1]
    assert (line["remote_addr"], line["request"], line["status"]) == ("192.0.2.1", "GET /a HTTP/1.1", 502)
    assert (line["request_id"], line["bytes"], line["service_time"]) == ("abc", len(page.body), None)


def test_a_packet_of_noise_is_no_line_of_its_length(world: World) -> None:
    world.log.refused(world.connection, b"G\x01" + b"\xff" * 64000, error_response(400))
    assert len(world.to.lines[-1]["request"]) < 10_000


def test_trouble_is_complained_about_and_goes_no_further(world: World) -> None:
    world.answer()
    world.to.trouble = BrokenPipeError("nobody reads")
    world.answer()
    assert len(world.to.lines) == 1
    assert "nobody reads" in world.complaints[0]


def test_an_application_may_have_changed_its_environ(world: World) -> None:
    outcome = ResponseOutcome(keep_alive=True)
    outcome.status = 200
    world.log.answered(world.connection, {"REMOTE_USER": object()}, outcome, time.time())
    assert world.to.lines[-1]["status"] == 200
