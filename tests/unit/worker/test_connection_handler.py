"""connection_handler.py: what a worker does with a connection that it has taken, by what has arrived on it."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appsrv.errors import Limit
from appsrv.http.syntax import Limits
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.worker.connection_handler import READ_BYTES, ConnectionHandler, HandlerOptions
from appsrv.worker.ready_queue import Connection, Orphaned, Spooled
from appsrv.worker.response_writer import ResponseBuffer
from appsrv.wsgi.environ import environ_base

GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
# Larger than a socket pair takes at once.
BIG = bytes(range(256)) * 8192


class Queue:
    """A ready queue that notes what becomes of connections, and does nothing with them."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def park(self, _connection: Connection, now: float) -> None:
        self.notes.append(("parked",))

    def pass_on(self, _connection: Connection) -> None:
        self.notes.append(("passed on",))

    def give_back(self, _connection: Connection, data: bytes) -> None:
        self.notes.append(("given back", data))

    def close(self, _connection: Connection, *, linger: bool = False, reset: bool = False) -> None:
        self.notes.append(("reset",) if reset else ("lingers",) if linger else ("closed",))

    def undelivered(
        self, _connection: Connection, first: bytes, files: list[tuple[int, int, int]], *, keep_alive: bool
    ) -> None:
        rest = first + b"".join(os.pread(fd, length, offset) for fd, offset, length in files)
        self.notes.append(("undelivered", rest, keep_alive))

    def limit_reached(self, _connection: Connection, limit: Limit, what: str) -> None:
        self.notes.append(("limit", limit.setting, what))


class Turn:
    """A handler, its client and its application: answers with the path and the length of the body."""

    def __init__(self, **options: Any) -> None:
        self.client, ours = socket.socketpair()
        ours.setblocking(False)
        self.client.setblocking(False)
        self.connection = Connection(7, ours, "192.0.2.1", "4711", 0, None, None)
        self.board = Scoreboard.create(1, 1)
        self.slot = self.board.slot(0)
        self.tally = self.slot.tally(0)
        self.queue: Any = Queue()
        self.seen: list[dict[str, Any]] = []
        self.answers: Callable[..., Any] = self.plain
        self.errors = StringIO()
        base = environ_base(
            server_name="a", server_port=80, multithread=False, multiprocess=True, errors=self.errors,
            url_scheme="http", script_name="",
        )
        self.log = SimpleNamespace(calls=[])
        self.log.answered = lambda _connection, environ, outcome, _started: self.log.calls.append(
            (environ["PATH_INFO"], outcome.status)
        )
        self.log.refused = lambda _connection, seen, response: self.log.calls.append((seen, response.status))
        self.handler = ConnectionHandler(
            HandlerOptions(
                lambda environ, start: self.answers(environ, start), options.pop("limits", Limits()), [base],
                development=False, access_log=self.log, buffer=ResponseBuffer(memory=1 << 24), **options,
            ),
            cast("Any", self.queue), self.slot.cell(0), self.tally,
        )

    def plain(self, environ: dict[str, Any], start: Any) -> list[bytes]:
        self.seen.append(environ)
        start("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['PATH_INFO']} {len(environ['wsgi.input'].read())}".encode()]

    def of(self, data: bytes) -> list[tuple[Any, ...]]:
        """What becomes of the connection when this is all that has arrived."""
        self.client.send(data)
        return self.serve()

    def serve(self) -> list[tuple[Any, ...]]:
        self.handler.serve(self.connection, 1000.0)
        (reading,) = self.slot.read()
        assert reading.cid == 0, "the cell names no connection any more"
        return self.queue.notes  # type: ignore[no-any-return]

    def received(self) -> bytes:
        """What the client has got."""
        try:
            return self.client.recv(1 << 20)
        except BlockingIOError:
            return b""

    def bodies(self) -> list[bytes]:
        """The bodies of all responses that the client has got, by their Content-Length."""
        found, rest = [], self.received()
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            found.append(rest[:length])
            rest = rest[length:]
        return found

    def served(self) -> int:
        """How many requests the scoreboard counts."""
        return self.slot.brief()[0][2]

    def close(self) -> None:
        self.client.close()
        self.connection.sock.close()


@pytest.fixture
def turn() -> Iterator[Turn]:
    made = Turn()
    yield made
    made.close()


def test_a_request_is_answered_and_its_connection_parked(turn: Turn) -> None:
    assert turn.of(GET % b"one") == [("parked",)]
    received = turn.received()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n/one 0")
    assert (turn.served(), turn.log.calls, turn.tally.read().classes[2]) == (1, [("/one", 200)], 1)
    (environ,) = turn.seen
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.1", "4711")


@pytest.mark.parametrize("part", [b"G", GET[:-2] % b"", (POST % 5), (POST % 5) + b"four", CHUNKED + b"4\r\nfo"])
def test_a_request_that_has_not_arrived_whole_is_given_back(turn: Turn, part: bytes) -> None:
    assert turn.of(part) == [("given back", part)]
    assert (turn.received(), turn.seen, turn.served()) == (b"", [], 0)


def test_a_body_that_waits_for_100_continue_is_the_slow_lanes(turn: Turn) -> None:
    waits = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    assert turn.of(waits) == [("given back", waits)]
    turn.queue.notes.clear()
    # More than one read takes: what is left unread is the slow lane's as well.
    long = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n" + b"x" * 100_000
    assert turn.of(long) == [("given back", long[:READ_BYTES])]


@pytest.mark.parametrize(
    ("request_", "length"),
    [((POST % 4) + b"four", 4), (CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", 6), ((POST % 0), 0)],
)
def test_a_body_that_has_arrived_is_given_to_the_application(turn: Turn, request_: bytes, length: int) -> None:
    assert turn.of(request_) == [("parked",)]
    assert turn.bodies() == [f"/ {length}".encode()]


def test_a_body_that_one_read_does_not_hold_is_read_on(turn: Turn) -> None:
    # The first read takes 64 KiB.
    assert turn.of((POST % 100_000) + b"x" * 100_000) == [("parked",)]
    assert turn.bodies() == [b"/ 100000"]


def test_requests_that_came_together_are_answered_in_their_order(turn: Turn) -> None:
    together = GET % b"1" + (POST % 2) + b"ab" + GET % b"3"
    assert turn.of(together) == [("parked",)]
    assert turn.bodies() == [b"/1 0", b"/ 2", b"/3 0"]
    assert turn.served() == 3


def test_the_beginning_of_a_further_request_is_given_back(turn: Turn) -> None:
    assert turn.of(GET % b"1" + b"GET /2") == [("given back", b"GET /2")]
    assert (turn.bodies(), turn.served()) == ([b"/1 0"], 1)


def test_after_an_answer_that_ends_the_connection_nothing_more_is_answered(turn: Turn) -> None:
    last = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert turn.of(last + GET % b"2") == [("closed",)]
    assert [environ["PATH_INFO"] for environ in turn.seen] == ["/1"]


def test_without_keep_alive_a_connection_ends_with_its_first_answer() -> None:
    turn = Turn(keep_alive=False)
    assert turn.of(GET % b"1" + GET % b"2") == [("closed",)]
    assert b"connection: close" in turn.received().lower()
    turn.close()


def test_http_1_0_ends_the_connection_unless_it_asks_for_more(turn: Turn) -> None:
    assert turn.of(b"GET / HTTP/1.0\r\n\r\n") == [("closed",)]
    turn.queue.notes.clear()
    assert turn.of(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == [("parked",)]


def test_the_answer_to_head_has_no_body(turn: Turn) -> None:
    assert turn.of(b"HEAD /one HTTP/1.1\r\nHost: a\r\n\r\n") == [("parked",)]
    received = turn.received()
    assert received.endswith(b"\r\n\r\n")
    assert b"content-length: 6" in received.lower()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"no request\r\n\r\n", 400), (b"GET / HTTP/3.0\r\n\r\n", 505), (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    ],
)
def test_a_request_that_breaks_the_rules_ends_the_connection(turn: Turn, request_: bytes, status: int) -> None:
    assert turn.of(request_) == [("lingers",)], "what the client still sends is read"
    assert turn.received().startswith(b"HTTP/1.1 %d " % status)
    assert (turn.seen, turn.log.calls, turn.tally.read().classes[status // 100]) == ([], [(request_, status)], 1)


def test_the_requests_before_a_broken_one_are_answered(turn: Turn) -> None:
    assert turn.of(GET % b"1" + b"broken\r\n\r\n") == [("lingers",)]
    received = turn.received()
    assert received.count(b"HTTP/1.1 ") == 2
    assert b"/1 0" in received
    assert b"HTTP/1.1 400 " in received


def test_a_limit_that_a_request_breaks_is_reported() -> None:
    turn = Turn(limits=Limits(body=3))
    assert turn.of((POST % 4) + b"four") == [
        ("limit", "max_body_size", "a request was answered 413 (Request body too large)"), ("lingers",)
    ]
    turn.close()


def test_a_client_that_has_closed_is_no_request(turn: Turn) -> None:
    turn.client.close()
    assert turn.serve() == [("closed",)]
    assert (turn.served(), turn.log.calls) == (0, [])


def test_a_connection_with_nothing_to_read_is_passed_on(turn: Turn) -> None:
    assert turn.serve() == [("passed on",)]


def test_a_client_that_has_gone_before_its_answer(turn: Turn) -> None:
    def answers(environ: Any, start: Any) -> list[bytes]:
        turn.client.close()
        return turn.plain(environ, start)

    turn.answers = answers
    assert turn.of(GET % b"") == [("reset",)]
    assert turn.errors.getvalue() == "", "that is no error of the application"
    assert turn.log.calls == [("/", 200)]


def test_what_the_client_does_not_take_is_the_drain_lanes(turn: Turn) -> None:
    def answers(_environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", str(len(BIG)))])
        return [BIG]

    turn.answers = answers
    ((name, rest, keep_alive),) = turn.of(GET % b"")
    received = turn.received()
    while more := turn.received():
        received += more
    assert (name, keep_alive) == ("undelivered", True)
    assert received.partition(b"\r\n\r\n")[2] + rest == BIG
    assert turn.handler._writer.pending is False, "the next connection begins anew"


def test_behind_such_a_response_the_connection_ends_when_more_was_read(turn: Turn) -> None:
    def answers(_environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", str(len(BIG)))])
        return [BIG]

    turn.answers = answers
    ((name, _, keep_alive),) = turn.of(GET % b"1" + GET % b"2")
    assert (name, keep_alive) == ("undelivered", False)


def test_a_response_that_breaks_off_is_cut(turn: Turn) -> None:
    def answers(_environ: Any, start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "10")])
        yield b"four"
        raise ValueError("broke off")

    turn.answers = answers
    assert turn.of(GET % b"") == [("reset",)]
    assert "broke off" in turn.errors.getvalue()


def test_what_the_application_raises_is_answered(turn: Turn) -> None:
    def answers(_environ: Any, _start: Any) -> list[bytes]:
        raise SystemExit(3)

    turn.answers = answers
    assert turn.of(GET % b"") == [("parked",)], "not even SystemExit ends the worker"
    assert turn.received().startswith(b"HTTP/1.1 500 ")
    assert "SystemExit" in turn.errors.getvalue()


def test_what_ends_the_worker_leaves_the_request_on_the_scoreboard(turn: Turn) -> None:
    def park(_connection: Connection, _now: float) -> None:
        raise Orphaned

    turn.queue.park = park
    turn.client.send(GET % b"last")
    with pytest.raises(Orphaned):
        turn.handler.serve(turn.connection, 1000.0)
    (reading,) = turn.slot.read()
    assert (reading.cid, reading.request_line, reading.response_begun) == (7, "GET /last HTTP/1.1", True)


def test_a_request_of_another_application_is_given_back() -> None:
    turn = Turn(is_ours=lambda head: head.variables["PATH_INFO"] != "/other")
    assert turn.of(GET % b"1" + GET % b"other" + GET % b"3") == [("given back", GET % b"other" + GET % b"3")]
    assert turn.bodies() == [b"/1 0"]
    turn.close()


# -- requests that the slow lane has read -----------------------------------------------------------------------------


def test_a_request_of_the_slow_lane_is_served_from_memory(turn: Turn) -> None:
    turn.connection.spooled = Spooled((POST % 4) + b"four" + GET % b"2", 4, None)
    assert turn.serve() == [("parked",)]
    assert turn.bodies() == [b"/ 4", b"/2 0"]
    assert turn.connection.spooled is None


def test_a_long_body_of_the_slow_lane_is_read_from_its_file(turn: Turn) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100_000)
        file.flush()
        fd = os.dup(file.fileno())
        turn.connection.spooled = Spooled((POST % 100_000) + b"GET /2", 100_000, fd)
        assert turn.serve() == [("given back", b"GET /2")]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert turn.bodies() == [b"/ 100000"]


# -- fields that not everybody may send -------------------------------------------------------------------------------


@pytest.mark.parametrize(("trusted", "client"), [("192.0.2.1", "198.51.100.7"), ("203.0.113.1", "192.0.2.1")])
def test_only_a_trusted_proxy_can_give_another_address(trusted: str, client: str) -> None:
    removed: list[tuple[str, str, list[str]]] = []
    reporter: Any = SimpleNamespace(removed=lambda *what: removed.append(what))
    turn = Turn(proxies=TrustedProxies((trusted,)), reporter=reporter)
    turn.of(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n")
    assert turn.seen[0]["REMOTE_ADDR"] == client
    assert [names for _, _, names in removed] == ([] if client == "198.51.100.7" else [["X-Forwarded-For"]])
    turn.close()


def test_a_child_of_the_worker_cannot_answer_the_client(turn: Turn) -> None:
    turn.of(GET % b"")
    turn.handler.close_in_child()
    assert turn.connection.sock.fileno() == -1
