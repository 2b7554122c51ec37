"""backend.py: what the back end of an application does with connections, by what its workers say of them.

The front end and the workers take notes. `test_frontend.py` has the real front end, and clients.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appsrv.errors import Limit, ProtocolError
from appsrv.http.head import parse_head
from appsrv.http.response import Response, error_response
from appsrv.http.syntax import Limits
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, messages
from appsrv.ipc.channel import Receiver
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.server.frontend.backend import INLINE_BODY, BackEnd
from appsrv.server.frontend.lanes import CompleteRequest
from appsrv.server.frontend.parking import ClientConnection, parking
from appsrv.system.spool import Spool

GET = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n"
UNAVAILABLE = error_response(503)
OUT_OF_DESCRIPTORS = OSError(24, "Too many open files")


class FrontEnd:
    """Notes what it is asked for, by the name of the method and the number of the connection."""

    def __init__(self) -> None:
        self.connections: dict[int, ClientConnection] = {}
        self.notes: list[tuple[Any, ...]] = []

    def in_lane(self, connection: ClientConnection, work: Callable[..., None], *arguments: object) -> None:
        connection.lane = True
        work(connection, *arguments)

    def read_on(self, connection: ClientConnection, data: bytes) -> None:
        self.notes.append(("read on", connection.cid, data))

    def drain(
        self, connection: ClientConnection, first: bytes, files: list[tuple[int, int, int]], keep_alive: bool
    ) -> None:
        rest = first + b"".join(os.pread(fd, length, offset) for fd, offset, length in files)
        channels.close_all([fd for fd, _, _ in files])
        self.notes.append(("drain", connection.cid, rest, keep_alive))

    def linger(self, connection: ClientConnection) -> None:
        self.notes.append(("linger", connection.cid))

    def send_fallback(self, connection: ClientConnection, fallback: object, head: Any) -> None:
        self.notes.append(("fallback", connection.cid, head.variables["PATH_INFO"]))

    def refuse(self, connection: ClientConnection, response: Response, seen: bytes = b"") -> None:
        self.notes.append(("refuse", connection.cid, response.status, seen))

    def answer_now(self, connection: ClientConnection, response: Response, seen: bytes) -> None:
        raise AssertionError("only for a request that takes too long")

    def close(self, connection: ClientConnection, *, reset: bool = False) -> None:
        self.notes.append(("reset" if reset else "close", connection.cid))
        del self.connections[connection.cid]

    def limit_reached(self, connection: ClientConnection, limit: Limit, outcome: str) -> None:
        self.notes.append(("limit", connection.cid, limit, outcome))


class Worker:
    """Notes what it is sent, and how often it is called to read it."""

    def __init__(self) -> None:
        self.outbox: Any = self
        self.sent: list[tuple[Message, list[int]]] = []
        self.calls = 0

    def send(self, msg: Message, fds: list[int] | None = None) -> None:
        self.sent.append((msg, fds or []))

    def call(self) -> None:
        self.calls += 1


class World:
    """A back end with two workers, and the end of its hand-off socket that they read."""

    def __init__(self) -> None:
        self.front = FrontEnd()
        self.board = Scoreboard.create(2, 1)
        self.refusal: Response | None = None
        self.busy: set[int] = set()
        self.now = 1000.0
        self.back = self.back_end(self.board)
        self.one, self.two = Worker(), Worker()
        for worker in (self.one, self.two):
            self.back.worker_joined(worker)
        self.receiver = Receiver(self.back.parking.theirs)
        self.sockets: list[socket.socket] = []

    def back_end(self, board: Scoreboard) -> BackEnd:
        return BackEnd(
            self.front, parking("portable", board, lambda: self.now), Limits(), admit=lambda: self.refusal,
            busy=lambda: self.busy, clock=lambda: self.now,
        )

    def client(self) -> ClientConnection:
        """A connection whose last request was for this application."""
        ours, client = socket.socketpair()
        ours.setblocking(False)
        self.sockets += [ours, client]
        connection = ClientConnection(len(self.sockets) // 2, ours, "192.0.2.1", 4711, 1)
        self.front.connections[connection.cid] = connection
        self.back.adopt(connection)
        return connection

    def handed_off(self) -> list[connection_messages.HandOff]:
        """All messages that wait for a worker."""
        found: list[connection_messages.HandOff] = []
        while True:
            try:
                data, fds = self.receiver.receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            channels.close_all(fds)
            found.append(connection_messages.HandOff.unpack(data))

    def says(self, msg: Message, fds: list[int] | None = None) -> list[tuple[Any, ...]]:
        """What a message of the first worker leads to; its descriptors are closed afterwards."""
        given = [os.dup(fd) for fd in fds or []]
        self.back.handle_message(self.one, msg, given)
        for fd in given:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
        notes, self.front.notes = self.front.notes, []
        return notes

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.back.parking.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def request(body: bytes = b"", rest: bytes = b"") -> CompleteRequest:
    """A request as the slow lane has read it."""
    parsed = parse_head(GET, Limits())
    assert parsed is not None
    spool = Spool(1 << 20)
    spool.write(body)
    return CompleteRequest(GET, parsed[0], spool, rest)


# -- to the workers ---------------------------------------------------------------------------------------------------


def test_a_connection_with_something_to_read_goes_to_the_workers(world: World) -> None:
    connection = world.client()
    world.back.push_new(connection)
    assert [msg.cid for msg in world.handed_off()] == [1]
    assert world.front.notes == []


def test_a_request_goes_with_its_body_or_with_a_file_of_it(world: World) -> None:
    world.back.push_request(world.client(), request(b"short", b"GET /next"))
    (short,) = world.handed_off()
    assert (short.body, short.data[short.peer :]) == (5, GET + b"short" + b"GET /next")
    world.back.push_request(world.client(), request(b"x" * (INLINE_BODY + 1), b"GET /next"))
    (long,) = world.handed_off()
    assert (long.body, long.data[long.peer :]) == (INLINE_BODY + 1, GET + b"GET /next")


def test_a_request_that_is_not_admitted_is_answered(world: World) -> None:
    world.refusal = UNAVAILABLE
    world.back.push_new(world.client())
    world.back.push_request(world.client(), request(b"body"))
    assert world.front.notes == [("refuse", 1, 503, b""), ("refuse", 2, 503, GET)]
    assert world.handed_off() == []


def test_a_connection_that_cannot_be_sent_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def push(_connection: ClientConnection) -> None:
        raise OUT_OF_DESCRIPTORS

    monkeypatch.setattr(world.back.parking, "push", push)
    world.back.push_new(world.client())
    assert world.front.notes == [("refuse", 1, 503, b"")]
    assert "Too many open files" in caplog.text


def test_a_connection_is_that_of_its_last_request(world: World) -> None:
    other = world.back_end(Scoreboard.create(1, 1))
    connection = world.client()
    world.back.park(connection)
    assert world.back.parked_since(connection) == 1000.0
    other.adopt(connection)
    assert (list(world.back.connections), list(other.connections)) == ([], [1])
    assert (connection.backend, connection.watch) == (other, None), "the other one's workers do not see it"
    assert world.back.parked_since(connection) == 0.0
    other.adopt(connection)
    other.parking.close()


def test_requests_that_nobody_has_taken_can_be_refused(world: World) -> None:
    for _ in range(3):
        world.back.push_new(world.client())
    del world.front.connections[1]
    world.back.connections.pop(1)
    assert world.back.refuse_waiting(2, UNAVAILABLE) == 1, "the client of the oldest one has gone"
    assert world.front.notes == [("refuse", 2, 503, b"")]
    assert [msg.cid for msg in world.handed_off()] == [3]


def test_requests_that_nobody_has_taken_can_be_routed_anew(world: World) -> None:
    world.back.push_new(world.client())
    world.back.push_request(world.client(), request(b"short"))
    world.back.push_request(world.client(), request(b"x" * (INLINE_BODY + 1)))
    world.back.route_again()
    assert world.front.notes == [
        ("read on", 1, b""), ("read on", 2, GET + b"short"),
        ("refuse", 3, 503, b""),
    ]
    assert world.handed_off() == []


# -- in the application's place ---------------------------------------------------------------------------------------


def test_while_no_worker_can_every_request_is_answered_in_the_applications_place(world: World) -> None:
    world.back.push_new(world.client())
    world.back.push_request(world.client(), request())
    world.back.fall_back(lambda _: UNAVAILABLE)
    assert world.front.notes == [("read on", 1, b""), ("fallback", 2, "/one")], "those that wait included"
    world.front.notes.clear()
    world.back.push_new(world.client())
    world.back.push_request(world.client(), request())
    assert world.front.notes == [("read on", 3, b""), ("fallback", 4, "/one")]
    world.back.fallback.end()
    world.back.push_new(world.client())
    assert [msg.cid for msg in world.handed_off()] == [5]


# -- what workers say -------------------------------------------------------------------------------------------------


def test_a_worker_that_keeps_a_connection_is_remembered_until_it_lets_it_go(world: World) -> None:
    connection = world.client()
    world.says(connection_messages.Holding(1))
    assert connection.holders == {world.one}
    assert world.says(connection_messages.GivenBack(1, b"POST")) == [("read on", 1, b"POST")]
    assert connection.holders == set()


def test_a_connection_that_a_worker_wants_is_lent(world: World) -> None:
    connection = world.client()
    assert world.says(connection_messages.DescriptorRequested(1)) == []
    answer = connection_messages.DescriptorSent(1, 4711, 1, 9, b"192.0.2.1")
    assert world.one.sent == [(answer, [connection.sock.fileno()])]
    assert world.one.calls == 0, "it waits for the answer"


@pytest.mark.parametrize("kind", [connection_messages.DescriptorRequested, connection_messages.Holding])
def test_of_a_connection_that_has_ended_a_worker_is_told(world: World, kind: type[Any]) -> None:
    assert world.says(kind(99)) == []
    assert (world.one.sent, world.one.calls) == ([(connection_messages.Gone(99), [])], 1)


def test_other_messages_of_a_connection_that_has_ended_are_too_late(world: World) -> None:
    with tempfile.TemporaryFile() as file:
        for msg in (
            connection_messages.Closed(99, 1, 0), connection_messages.GivenBack(99, b""),
            connection_messages.LimitReached(99, "a", "1", "b"),
            connection_messages.Undelivered(99, 1, 1, struct.pack("<QQ", 0, 1)),
        ):
            assert world.says(msg, [file.fileno()]) == []
    assert world.one.sent == []


@pytest.mark.parametrize(
    ("linger", "reset", "led_to"), [(0, 0, ("close", 1)), (0, 1, ("reset", 1)), (1, 0, ("linger", 1))]
)
def test_a_connection_that_a_worker_has_closed_ends(
    world: World, linger: int, reset: int, led_to: tuple[str, int]
) -> None:
    connection = world.client()
    connection.holders = {world.one, world.two}
    assert world.says(connection_messages.Closed(1, linger, reset)) == [led_to]
    assert connection.holders == {world.two}, "it need not be told"


def test_several_connections_end_with_one_message(world: World) -> None:
    for _ in range(3):
        world.client()
    world.front.connections[3].holders = {world.one}
    assert world.says(connection_messages.ClosedAll(3, struct.pack("<3Q", 1, 99, 3))) == [("close", 1), ("close", 3)]
    assert list(world.front.connections) == [2]


def test_a_long_incomplete_request_comes_as_a_file(world: World) -> None:
    world.client()
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100_000)
        file.flush()
        assert world.says(connection_messages.GivenBack(1, b""), [file.fileno()]) == [("read on", 1, b"x" * 100_000)]


def test_the_rest_of_a_response_is_sent_in_the_drain_lane(world: World) -> None:
    connection = world.client()
    connection.holders = {world.one}
    with tempfile.TemporaryFile() as file:
        file.write(b"the rest of a file")
        file.flush()
        places = struct.pack("<QQ", 4, 4)
        rest = connection_messages.Undelivered(1, 1, 1, places + b"first, then the ")
        assert world.says(rest, [file.fileno()]) == [("drain", 1, b"first, then the rest", True)]
    assert connection.holders == set()


def test_the_rest_of_a_response_without_its_files_is_no_message(world: World) -> None:
    connection = world.client()
    connection.holders = {world.one}
    with pytest.raises(ProtocolError, match="1 files came with 0 descriptors"):
        world.says(connection_messages.Undelivered(1, 1, 1, struct.pack("<QQ", 4, 4)))
    assert (world.front.notes, connection.holders) == ([], {world.one})


def test_a_limit_that_a_worker_has_met_is_passed_on(world: World) -> None:
    world.client()
    assert world.says(connection_messages.LimitReached(1, "max_body_size", "1 MiB", "answered 413")) == [
        ("limit", 1, Limit("max_body_size", "1 MiB"), "answered 413")
    ]


def test_what_cannot_be_done_for_lack_of_descriptors_ends_the_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def dup(_fd: int) -> int:
        raise OUT_OF_DESCRIPTORS

    world.client()
    rest = connection_messages.Undelivered(1, 1, 1, struct.pack("<QQ", 0, 9))
    with tempfile.TemporaryFile() as file:
        fd = os.dup(file.fileno())
        monkeypatch.setattr("os.dup", dup)
        world.back.handle_message(world.one, rest, [fd])
        monkeypatch.undo()
    assert world.front.notes == [("reset", 1)]
    assert "a connection is given up: Too many open files" in caplog.text


def test_a_message_whose_descriptors_are_lost_costs_its_connection(world: World) -> None:
    world.client()
    world.back.give_up(connection_messages.GivenBack(1, b""))
    world.back.give_up(connection_messages.GivenBack(99, b""))
    world.back.give_up(messages.CodeChanged([]))
    assert world.front.notes == [("reset", 1)]


# -- the end of a worker ----------------------------------------------------------------------------------------------


def test_the_connections_in_the_cells_of_a_dead_worker_end(world: World) -> None:
    unanswered, begun, given_away, idle = (world.client() for _ in range(4))
    given_away.lane = True
    idle.holders = {world.one, world.two}
    served = [(1, False, "GET /a"), (2, True, "GET /b"), (3, False, "GET /c"), (99, False, "GET /d")]
    world.back.worker_gone(world.one, served, "e1")
    assert world.front.notes == [("refuse", 1, 502, b"GET /a"), ("reset", 2)], "a lane goes on with what it has"
    assert idle.holders == {world.two}
    assert (world.back.parking.workers, len(world.back.connections)) == (1, 4)
    assert unanswered in world.front.connections.values()
    assert begun not in world.front.connections.values()


def test_a_connection_that_a_dead_worker_took_without_a_word_is_handed_over_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            # Seen lost once: it may just have been taken, and not yet be on the scoreboard.
            assert world.handed_off() == []
            world.busy = {2}

    lost, taken = world.client(), world.client()
    monkeypatch.setattr("gevent.sleep", sleep)
    monkeypatch.setattr("gevent.spawn", lambda work: work())
    world.back.recover_lost()
    monkeypatch.undo()
    assert [msg.cid for msg in world.handed_off()] == [lost.cid]
    assert taken.cid in world.busy
    assert sum(slept) == pytest.approx(5.0)


def test_at_the_end_of_the_application_its_connections_are_closed(world: World) -> None:
    world.client()
    sending = world.client()
    sending.lane = True
    world.back.close()
    assert world.front.notes == [("close", 1)]
    assert (sending.backend, list(world.back.connections)) == (None, [1]), "it is sent to its end"
    assert world.back.parking.theirs.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(world.board.fd)
    world.back = world.back_end(Scoreboard.create(1, 1))


def test_a_body_is_closed_when_it_has_been_sent(world: World) -> None:
    sent = request(b"x" * (INLINE_BODY + 1))
    world.back.push_request(world.client(), sent)
    with pytest.raises(ValueError, match="closed"):
        sent.body.read_all()
