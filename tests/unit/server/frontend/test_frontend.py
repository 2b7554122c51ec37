"""frontend.py and backend.py: real clients on one side, workers that only speak the protocol on the other."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import select
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
import pytest

from appsrv.http.connection_limits import ConnectionLimits
from appsrv.http.response import error_response
from appsrv.http.syntax import Limits
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, messages
from appsrv.ipc.channel import Channel, Outbox, Receiver
from appsrv.ipc.dispatcher import UnexpectedMessage
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.shared_epoll import AVAILABLE, SharedEpoll
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.frontend.frontend import FrontEnd
from appsrv.server.frontend.lanes import Timeouts
from appsrv.server.frontend.parking import ClientConnection, parking

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
KEEPALIVE = 30.0


def until(question: Callable[[], object], what: str) -> Any:
    """Let the event loop run until the answer is true; the answer."""
    deadline = time.monotonic() + 5
    while not (answer := question()):
        assert time.monotonic() < deadline, what
        gevent.sleep(0.001)
    return answer


class Worker:
    """A post of the front end, and what arrives at the worker's end."""

    def __init__(self, back: BackEnd) -> None:
        ours, theirs = channels.pair()
        ours.setblocking(False)
        self.outbox = Outbox(Channel(ours))
        self.end = Channel(theirs)
        self.calls = 0
        self.back = back
        back.worker_joined(self)

    def call(self) -> None:
        self.calls += 1

    def says(self, msg: Message, fds: list[int] | None = None) -> None:
        """As if it came from the worker; the front end closes the descriptors."""
        self.back.handle_message(self, msg, [os.dup(fd) for fd in fds or []])

    def hears(self) -> Message | None:
        """The next thing the front end has told it."""
        try:
            msg, fds = self.end.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        channels.close_all(fds)
        return msg

    def close(self) -> None:
        self.end.close()
        self.outbox.channel.close()


class World:
    """A front end that listens, its clients, and two workers."""

    def __init__(self, kind: str, keepalive: float = KEEPALIVE, patience: float = 5.0) -> None:
        self.board = Scoreboard.create(2, 1)
        self.parking = parking(kind, self.board)
        self.nudges = 0
        self.front = FrontEnd(Limits(), Timeouts(patience, patience, 5.0), keepalive)
        self.back = BackEnd(self.front, self.parking, Limits())
        self.back.admit = self.nudge
        self.front.backends, self.front.only = [self.back], self.back
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.front.acceptor.listen([(3, self.listening)])
        self.clients: list[socket.socket] = []
        self.one, self.two = Worker(self.back), Worker(self.back)
        self.receiver = Receiver(self.parking.theirs)
        self.spare: list[int] = []

    def nudge(self) -> None:
        self.nudges += 1

    def client(self, data: bytes = b"") -> socket.socket:
        """A client that connects and sends this."""
        made = socket.create_connection(self.listening.getsockname())
        made.setblocking(False)
        self.clients.append(made)
        made.send(data)
        return made

    def handed_off(self) -> tuple[connection_messages.HandOff, list[int]]:
        """What a worker would take next."""

        def take() -> tuple[bytes, list[int]] | None:
            try:
                return self.receiver.receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None

        data, fds = until(take, "a hand-off")
        self.spare += fds
        return connection_messages.HandOff.unpack(data), fds

    def connected(self, data: bytes = GET) -> tuple[socket.socket, ClientConnection]:
        """A client whose connection a worker has taken, and which it has read from."""
        client = self.client(data)
        msg, fds = self.handed_off()
        if data:
            until(lambda: os.read(fds[0], 1000), "the request")
        channels.close_all(fds)
        self.spare.clear()
        return client, self.front.connections[msg.cid]

    def answer(self, client: socket.socket) -> bytes:
        """All that the client gets until the end of the connection."""
        got = b""

        def ended() -> bool:
            nonlocal got
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                return False
            got += data
            return not data

        until(ended, f"the end of the connection after {got!r}")
        return got

    def read(self, client: socket.socket, wanted: int) -> bytes:
        """So many bytes of an open connection."""
        got = b""

        def enough() -> bool:
            nonlocal got
            try:
                got += client.recv(1 << 20)
            except BlockingIOError:
                return False
            return len(got) >= wanted

        until(enough, f"{wanted} bytes")
        return got

    def close(self) -> None:
        self.front.acceptor.stop()
        for client in self.clients:
            client.close()
        until(lambda: not any(c.lane for c in self.front.connections.values()), "the end of the lanes")
        for connection in list(self.front.connections.values()):
            self.front.close(connection)
        gevent.sleep(0)
        self.one.close()
        self.two.close()
        self.listening.close()
        self.parking.close()
        channels.close_all([*self.spare, self.board.fd])


QUEUES = ["portable", pytest.param("epoll", marks=pytest.mark.skipif(not AVAILABLE, reason="epoll is Linux's"))]


@pytest.fixture(params=QUEUES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A front end with each ready queue."""
    made = World(request.param)
    yield made
    made.close()


@pytest.fixture(params=QUEUES)
def impatient(request: pytest.FixtureRequest) -> Iterator[World]:
    """The same, for clients that are too slow."""
    made = World(request.param, patience=0.05)
    yield made
    made.close()


# -- accepting


def test_a_new_connection_goes_to_the_workers(world: World) -> None:
    client = world.client(GET)
    msg, fds = world.handed_off()
    assert (msg.cid, msg.listener, msg.port) == (1, 3, client.getsockname()[1])
    assert msg.data == b"127.0.0.1"
    assert os.read(fds[0], 100) == GET
    assert (world.front.accepted, world.nudges) == (1, 1)


def test_many_at_once(world: World) -> None:
    for _ in range(100):
        world.client(GET)
    assert [world.handed_off()[0].cid for _ in range(100)] == list(range(1, 101))


def test_nothing_is_accepted_after_the_stop(world: World) -> None:
    world.front.acceptor.stop()
    world.client(GET)
    gevent.sleep(0.01)
    assert world.front.accepted == 0


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[Callable[[], None]]:
    """This process may open nothing more until it closes something; the given function takes what became free.

    The limit lies above every open descriptor and fillers take the free numbers below it. A limit at the lowest free
    number would not do: the kernel could not give out the number of a descriptor that is closed above it.
    """
    gc.collect()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers: list[int] = []

    def fill() -> None:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        fill()
        yield fill
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        channels.close_all(fillers)


def test_being_out_of_descriptors_is_only_a_pause(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        world.client(GET)
    with no_descriptor_left() as fill:
        # Objects of other tests may be collected meanwhile and close their descriptors.
        until(lambda: fill() or world.front.limits.pauses > 2, "several pauses")
    assert [world.handed_off()[0].cid for _ in range(3)] == [1, 2, 3]
    assert caplog.text.count("cannot accept connections: Too many open files") == 1


def test_being_out_of_descriptors_costs_idle_connections_first(world: World) -> None:
    idle, connection = world.connected()
    world.back.park(connection)
    world.client(GET)
    with no_descriptor_left():
        assert world.answer(idle) == b""
        until(lambda: world.front.accepted == 2, "the new one")
    assert world.front.limits.closed_idle == 1


def test_the_connection_idle_longest_makes_room(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.front.limits.max_connections = 3
    clients = [world.connected() for _ in range(3)]
    for _, connection in (clients[1], clients[0]):
        world.back.park(connection)
    world.connected()
    assert world.answer(clients[1][0]) == b""
    assert sorted(world.front.connections) == [1, 3, 4]
    world.connected()
    assert sorted(world.front.connections) == [3, 4, 5]
    assert caplog.text.count("max_connections (3)") == 1


def test_what_is_being_served_or_asks_is_not_closed_to_make_room(world: World) -> None:
    world.front.limits.max_connections = 2
    (_, served), (asking, asks) = world.connected(), world.connected()
    world.board.park(served.cid, 1.0)
    world.back.busy = lambda: {served.cid}
    world.board.park(asks.cid, 1.0)
    asking.send(GET)
    third = world.client(GET)
    until(lambda: world.front.limits.pauses > 1, "pauses")
    assert sorted(world.front.connections) == [served.cid, asks.cid]
    # It has waited in the backlog, and comes in when one of the others has gone.
    world.front.close(served)
    until(lambda: 3 in world.front.connections, "the third")
    assert third.getpeername() == world.listening.getsockname()


def test_one_address_has_its_limit_and_others_do_not_feel_it(world: World) -> None:
    world.front.limits = world.front.acceptor.limits = ConnectionLimits(100, 2, TrustedProxies(()))
    (_, first), (second, _) = world.connected(), world.connected()
    answer = world.answer(world.client(GET))
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: " in answer
    assert world.front.limits.refused == 1
    # An idle one of the same address makes room instead; what has gone counts no more.
    world.back.park(first)
    world.connected()
    assert sorted(world.front.connections) == [2, 3]
    second.close()
    world.front.close(world.front.connections[2])
    world.connected()
    assert world.front.limits.refused == 1


def test_behind_proxy_protocol_the_limit_is_of_clients_and_not_of_the_proxy(world: World) -> None:
    limits = ConnectionLimits(100, 1, TrustedProxies(("*",), carried=True))
    world.front.limits = world.front.acceptor.limits = limits
    names = iter(["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"])

    def name(connection: ClientConnection) -> None:
        connection.address = next(names)

    world.front.preambles = {3: name}
    world.client(GET)
    world.client(GET)
    assert [world.handed_off()[0].cid for _ in range(2)] == [1, 2]
    assert world.answer(world.client(GET)).startswith(b"HTTP/1.1 429 ")
    world.client(GET)
    assert world.handed_off()[0].cid == 4


def test_a_broken_application_is_told_to_every_client(world: World) -> None:
    waits = world.client(GET)
    until(lambda: world.front.accepted == 1, "the first connection")
    world.back.fall_back(lambda variables: error_response(503, retry_after=5))
    assert world.answer(waits).startswith(b"HTTP/1.1 503 ")
    assert world.answer(world.client(GET)).startswith(b"HTTP/1.1 503 ")
    world.back.fallback.end()
    world.client(GET)
    assert world.handed_off()[0].cid == 3


def test_a_request_may_be_kept_until_the_application_is_back(world: World) -> None:
    asked: list[str] = []

    def keep(variables: Mapping[str, str]) -> None:
        asked.append(variables["HTTP_APPSRV_FAILURE"])

    world.back.fall_back(keep)
    client = world.client(b"HEAD / HTTP/1.1\r\nHost: a\r\nAppsrv-Failure: 7\r\n\r\n")
    until(lambda: asked == ["7"], "the question")
    gevent.sleep(0)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    world.back.fallback.end()
    assert world.answer(client).startswith(b"HTTP/1.1 204 ")


# -- workers that die


def test_the_client_of_a_dead_worker_gets_502(world: World) -> None:
    client, connection = world.connected()
    world.back.worker_gone(world.one, [(connection.cid, False, "GET / HTTP/1.1")], "0badc0de")
    answer = world.answer(client)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"0badc0de" in answer
    client.close()
    until(lambda: not world.front.connections, "the end of the connection")


def test_a_response_that_had_begun_is_cut(world: World) -> None:
    client, connection = world.connected()
    connection.sock.send(b"HTTP/1.1 200 OK\r\n\r\nhal")
    assert world.read(client, 22).endswith(b"hal")
    world.back.worker_gone(world.one, [(connection.cid, True, "GET / HTTP/1.1")], "id")
    with pytest.raises(ConnectionResetError):
        world.answer(client)
    assert world.front.connections == {}


def test_what_a_worker_gave_away_in_its_last_moment_is_the_lanes(world: World) -> None:
    client, connection = world.connected(b"GET / HT")
    world.one.says(connection_messages.GivenBack(1, b"GET / HT"))
    gevent.sleep(0)
    world.back.worker_gone(world.one, [(connection.cid, True, "GET / HTTP/1.1")], "id")
    client.send(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert world.handed_off()[0].data == b"127.0.0.1" + GET


def test_other_clients_do_not_notice(world: World) -> None:
    _, mine = world.connected()
    other, _ = world.connected()
    world.back.worker_gone(world.one, [(mine.cid, True, ""), (99, False, "")], "id")
    gevent.sleep(0.005)
    with pytest.raises(BlockingIOError):
        other.recv(1)


def test_a_lost_connection_is_handed_over_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = gevent.sleep
    monkeypatch.setattr(gevent, "sleep", lambda _seconds: sleep(0))
    world.client(GET)
    world.handed_off()
    world.back._recover_lost()
    monkeypatch.undo()
    if world.parking.kind == "portable":
        assert world.handed_off()[0].cid == 1
    else:
        assert SharedEpoll(world.parking.fds_for_workers()[2]).waiter().next(0) == 1


# -- what workers say


def test_holders_are_told_when_a_connection_has_gone(world: World) -> None:
    client, connection = world.connected()
    world.one.says(connection_messages.Holding(1))
    world.two.says(connection_messages.Holding(1))
    world.one.says(connection_messages.Closed(1, 0))
    assert (world.one.hears(), world.one.calls) == (None, 0)
    assert (world.two.hears(), world.two.calls) == (connection_messages.Gone(1), 1)
    assert world.answer(client) == b""
    assert connection.sock.fileno() == -1


def test_a_dead_holder_is_not_told(world: World) -> None:
    _, connection = world.connected()
    world.one.says(connection_messages.Holding(1))
    world.back.worker_gone(world.one, [], "")
    world.front.close(connection)
    assert world.one.hears() is None


def test_a_connection_is_lent(world: World) -> None:
    client, _ = world.connected()
    world.one.says(connection_messages.DescriptorRequested(1))
    lent, fds = world.one.end.receive()
    assert lent == connection_messages.DescriptorSent(1, client.getsockname()[1], 3, 9, b"127.0.0.1")
    os.write(fds[0], b"hello")
    channels.close_all(fds)
    assert world.read(client, 5) == b"hello"


def test_what_has_gone_cannot_be_lent(world: World) -> None:
    world.one.says(connection_messages.DescriptorRequested(77))
    assert world.one.hears() == connection_messages.Gone(77)


def test_a_descriptor_of_what_has_gone_is_given_back(world: World) -> None:
    """Another worker may take and close a connection before the server hears that this one holds it."""
    world.one.says(connection_messages.Holding(77))
    assert (world.one.hears(), world.one.calls) == (connection_messages.Gone(77), 1)


def test_words_about_what_has_gone_are_ignored(world: World) -> None:
    for msg in (connection_messages.Closed(9, 1), connection_messages.GivenBack(9, b"x")):
        world.one.says(msg)
    assert world.one.hears() is None


def test_an_unexpected_message_is_refused_and_leaks_nothing(world: World) -> None:
    # What earlier tests have left to the collector must not go in between.
    gc.collect()
    before = os.listdir("/dev/fd")
    with pytest.raises(UnexpectedMessage, match="a server does not handle ReopenLogs from a worker"):
        world.one.says(messages.ReopenLogs(), [world.board.fd])
    assert len(os.listdir("/dev/fd")) == len(before)


def test_a_released_connection_waits_for_its_next_request(world: World) -> None:
    if world.parking.kind != "portable":
        pytest.skip("workers park in the epoll themselves")
    client, connection = world.connected()
    world.board.park(1, time.monotonic())
    released = connection_messages.RELEASED.pack
    os.write(world.parking.fds_for_workers()[2], released(99) + released(1))
    client.send(GET)
    assert world.handed_off()[0].cid == connection.cid


# -- out of descriptors


def test_a_connection_whose_response_is_lost_is_reset(world: World) -> None:
    client, _ = world.connected()
    other, kept = world.connected()
    world.back.give_up(connection_messages.Undelivered(1, 1, 1, struct.pack("<QQ", 0, 9)))
    world.back.give_up(connection_messages.Undelivered(99, 1, 0, b""))
    with pytest.raises(ConnectionResetError):
        world.answer(client)
    assert list(world.front.connections.values()) == [kept]
    with pytest.raises(BlockingIOError):
        other.recv(1)


def test_a_response_that_cannot_be_kept_ends_its_connection_only(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    client, _ = world.connected()
    _, kept = world.connected()
    with tempfile.TemporaryFile() as file:
        fd = os.dup(file.fileno())
        monkeypatch.setattr(os, "dup", full)
        world.back.handle_message(world.one, connection_messages.Undelivered(1, 1, 1, struct.pack("<QQ", 0, 9)), [fd])
        monkeypatch.undo()
    assert "Too many open files" in caplog.text
    with pytest.raises(ConnectionResetError):
        world.answer(client)
    assert list(world.front.connections.values()) == [kept]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# -- the slow lane


def test_a_request_given_back_comes_back_whole(world: World) -> None:
    client, _ = world.connected(b"POST / HTTP/1.1\r\nHost: x\r\n")
    nudges = world.nudges
    world.one.says(connection_messages.GivenBack(1, b"POST / HTTP/1.1\r\nHost: x\r\n"))
    client.send(b"Content-Length: 4\r\n\r\nbodyGET")
    msg, _ = world.handed_off()
    assert msg.body == 4
    assert msg.data.startswith(b"127.0.0.1POST / HTTP/1.1\r\n")
    assert msg.data.endswith(b"\r\n\r\nbodyGET")
    assert world.nudges == nudges + 1


def test_a_large_body_comes_back_as_a_file(world: World) -> None:
    body = bytes(range(256)) * 2000
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    client, _ = world.connected(head)
    with tempfile.TemporaryFile() as file:
        file.write(head)
        file.flush()
        world.one.says(connection_messages.GivenBack(1, b""), [file.fileno()])
    client.setblocking(True)
    gevent.get_hub().threadpool.spawn(client.sendall, body)
    msg, fds = world.handed_off()
    assert (msg.body, msg.data) == (len(body), b"127.0.0.1" + head)
    assert os.pread(fds[1], len(body) + 1, 0) == body


def test_a_bad_request_is_answered_here(world: World) -> None:
    client, _ = world.connected(b"x")
    world.one.says(connection_messages.GivenBack(1, b"nonsense\r\n\r\n"))
    assert world.answer(client).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_stops_in_the_middle_is_told(impatient: World) -> None:
    client, _ = impatient.connected(b"GET")
    impatient.one.says(connection_messages.GivenBack(1, b"GET"))
    assert impatient.answer(client).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_never_began_is_not(impatient: World) -> None:
    client, _ = impatient.connected(b"x")
    impatient.one.says(connection_messages.GivenBack(1, b"\r\n"))
    assert impatient.answer(client) == b""


def test_a_client_that_goes_in_the_middle_is_forgotten(world: World) -> None:
    client, _ = world.connected(b"GET")
    world.one.says(connection_messages.GivenBack(1, b"GET"))
    client.close()
    until(lambda: not world.front.connections, "the end of the connection")


# -- the drain lane


@pytest.mark.parametrize("keep_alive", [False, True])
def test_the_rest_of_a_response_is_sent(world: World, keep_alive: bool) -> None:
    client, connection = world.connected()
    places = struct.pack("<QQ", 1, 3)
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        world.one.says(connection_messages.Undelivered(1, int(keep_alive), 1, places + b"first "), [file.fileno()])
    if not keep_alive:
        assert world.answer(client) == b"first 123"
        return
    assert world.read(client, 9) == b"first 123"
    until(lambda: world.board.parked_since(1), "its parking")
    assert not connection.lane
    assert world.front.connections == {1: connection}


def test_a_client_that_does_not_read_on_is_forgotten(world: World) -> None:
    client, _ = world.connected()
    before = len(os.listdir("/dev/fd"))
    with tempfile.TemporaryFile() as file:
        file.truncate(50_000_000)
        places = struct.pack("<QQ", 0, 50_000_000)
        world.one.says(connection_messages.Undelivered(1, 1, 1, places), [file.fileno()])
    gevent.sleep(0.005)
    client.close()
    until(lambda: not world.front.connections, "the end of the connection")
    until(lambda: len(os.listdir("/dev/fd")) < before, "the end of its descriptors")


def test_a_lingering_end(world: World) -> None:
    client, connection = world.connected()
    connection.sock.send(b"HTTP/1.1 413 x\r\n\r\n")
    client.send(b"what nobody reads")
    world.one.says(connection_messages.Closed(1, 1))
    assert world.answer(client) == b"HTTP/1.1 413 x\r\n\r\n"
    client.close()
    until(lambda: not world.front.connections, "the end of the connection")


# -- closing


@pytest.mark.skipif(not AVAILABLE, reason="nothing but Linux resets a connection that others hold")
def test_a_cut_response_is_a_reset_though_another_worker_holds_the_connection(world: World) -> None:
    client, connection = world.connected()
    held = os.dup(connection.sock.fileno())
    world.spare.append(held)
    world.two.says(connection_messages.Holding(1))
    connection.sock.send(b"HTTP/1.1 200 OK\r\n\r\nhal")
    assert world.read(client, 22).endswith(b"hal")
    world.one.says(connection_messages.Closed(1, 0, 1))
    with pytest.raises(ConnectionResetError):
        world.answer(client)
    assert world.two.hears() == connection_messages.Gone(1)


def test_the_stop_leaves_what_has_asked(world: World) -> None:
    """A request that waits on a parked connection is no idleness."""
    client, connection = world.connected()
    world.board.park(connection.cid, time.monotonic())
    client.send(GET)
    until(lambda: select.select([connection.sock], [], [], 0)[0], "the request")
    world.front.close_idle()
    assert world.front.connections == {1: connection}


def test_idle_connections_are_closed_after_their_time(world: World) -> None:
    old, busy, fresh, lane = (world.connected() for _ in range(4))
    now = time.monotonic()
    for (_, connection), since in ((old, now - 31), (busy, now - 31), (fresh, now), (lane, now - 31)):
        world.board.park(connection.cid, since)
    lane[1].lane = True
    world.back.busy = lambda: {busy[1].cid}
    world.front.sweep()
    lane[1].lane = False
    assert list(world.front.connections.values()) == [busy[1], fresh[1], lane[1]]
    assert world.answer(old[0]) == b""
    assert world.board.parked_since(old[1].cid) == 0.0


def test_the_stop_closes_what_is_idle_at_once(world: World) -> None:
    idle, served = world.connected(), world.connected()
    world.board.park(idle[1].cid, time.monotonic())
    world.front.close_idle()
    assert list(world.front.connections.values()) == [served[1]]
    assert world.answer(idle[0]) == b""


def test_waiting_requests_are_refused(world: World) -> None:
    clients = [world.client(GET) for _ in range(3)]
    until(lambda: world.front.accepted == 3, "three connections")
    assert world.back.refuse_waiting(2, error_response(503, retry_after=5)) == 2
    answers = [world.answer(client) for client in clients[:2]]
    assert all(answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 5" in answer for answer in answers)
    assert world.handed_off()[0].cid == 3
    assert world.back.refuse_waiting(9, error_response(503)) == 0


def test_closing_twice_is_closing_once(world: World) -> None:
    _, connection = world.connected()
    world.front.close(connection)
    world.front.close(connection, reset=True)
    assert world.front.connections == {}


def test_without_keep_alive_a_new_client_still_has_time_to_ask() -> None:
    world = World("portable", keepalive=0.0)
    try:
        _, connection = world.connected(b"x")
        for waits, stays in ((1.0, True), (6.0, False)):
            world.back.park(connection)
            world.board.park(connection.cid, time.monotonic() - waits)
            world.front.sweep()
            assert (connection.cid in world.front.connections) == stays
    finally:
        world.close()
