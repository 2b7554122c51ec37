"""ready_queue.py and server/frontend/parking.py together: the front end's and the workers' sides, in one process."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, directions, message_format
from appsrv.ipc.channel import Channel
from appsrv.ipc.hand_off import HAND_OFF
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.shared_epoll import AVAILABLE, SharedEpoll
from appsrv.server.frontend.parking import ClientConnection, EpollParking, WatchedParking, parking
from appsrv.worker import ready_queue
from appsrv.worker.ready_queue import Connection, EpollQueue, Orphaned, PortableQueue, ReadyQueue

EPOLL = pytest.mark.skipif(not AVAILABLE, reason="epoll is Linux's")
SLOTS = 3
SHORT_MS = 20


class WorkerDelivery:
    """A worker as the front end has it; nobody writes to it here."""

    outbox: Any = None

    def call(self) -> None:
        raise AssertionError("nobody has to look")


class World:
    """A parking, up to three workers' queues with the server's ends of their channels, and clients."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.board = Scoreboard.create(SLOTS, 1)
        self.parking = parking(kind, self.board)
        # A worker that finds nothing is not to wait for a whole second here.
        self.parking.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, SHORT_MS * 1000))
        self.queues: list[ReadyQueue] = []
        self.ends: list[Channel] = []
        self.workers: list[WorkerDelivery] = []
        self.connections: dict[int, ClientConnection] = {}
        self.clients: dict[int, socket.socket] = {}
        self.taken: list[Connection] = []
        self.parking.connections = self.connections
        self.parking.workers = SLOTS
        # All workers of one preloader have the same numbers for the same files.
        self.fds = [os.dup(fd) for fd in self.parking.fds_for_workers()]
        self.hand_off = socket.socket(fileno=self.fds.pop(0))
        self.workers_board = Scoreboard(self.fds[0], SLOTS, 1)
        for index in range(SLOTS):
            self._hire(index)

    def _hire(self, index: int) -> None:
        ours, theirs = channels.pair()
        shared = (self.hand_off, Channel(theirs), self.workers_board, self.workers_board.slot(index))
        if self.kind == "epoll":
            self.queues.append(EpollQueue(*shared, SharedEpoll(self.fds[1])))
        else:
            self.queues.append(PortableQueue(*shared, self.fds[1]))
        self.ends.append(Channel(ours))
        self.workers.append(WorkerDelivery())

    def client(self, data: bytes = b"", address: str = "192.0.2.1") -> ClientConnection:
        """A client that has connected, and sent this."""
        ours, client = socket.socketpair()
        ours.setblocking(False)
        client.settimeout(5)
        cid = len(self.connections) + 1
        connection = ClientConnection(cid, ours, address, 4711, 1)
        self.connections[cid] = connection
        self.clients[cid] = client
        if data:
            client.send(data)
        return connection

    def take(self, worker: int = 0) -> Connection | None:
        """What this worker gets when it asks once."""
        connection = self.queues[worker].take()
        if connection is not None:
            self.taken.append(connection)
        return connection

    def take_soon(self, worker: int = 0) -> Connection:
        """What this worker gets, while the front end's event loop runs."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            gevent.sleep(0.001)
            connection = self.take(worker)
            if connection is not None:
                return connection
        raise AssertionError("nothing to take")

    def heard(self, worker: int = 0) -> tuple[Message, list[int]]:
        """The next thing this worker has said."""
        return self.ends[worker].receive(socket.MSG_DONTWAIT)

    def say(self, worker: int, msg: Message, fds: list[int] | None = None) -> None:
        """The front end says something to a worker."""
        self.ends[worker].send(msg, fds or [])

    def park(self, connection: Connection, worker: int = 0) -> None:
        """The worker parks; the front end hears of it and does its part."""
        self.queues[worker].park(connection, time.monotonic())
        known = self.connections[connection.cid]
        try:
            assert self.heard(worker)[0] == connection_messages.Holding(connection.cid)
            known.holders = {self.workers[worker]} | (known.holders or set())
        except BlockingIOError:
            pass
        if self.kind == "portable":
            until(lambda: bool(known.watch), "the front end reads the release pipe")

    def waiting(self) -> int:
        """The length of the queue."""
        return self.parking.waiting(sum(self.board.slot(index).taken for index in range(SLOTS)))

    def parked(self) -> ClientConnection:
        """A client whose first request worker 0 has answered."""
        connection = self.client(b"first")
        self.parking.push(connection)
        taken = self.take_soon()
        taken.sock.recv(100)
        self.park(taken)
        return connection

    def close(self) -> None:
        """Give everything back."""
        for connection in self.connections.values():
            self.parking.forget(connection)
            connection.sock.close()
        for taken in self.taken:
            taken.sock.close()
        for client in self.clients.values():
            client.close()
        for end in self.ends:
            end.close()
        for queue in self.queues:
            queue._channel.close()
        self.hand_off.close()
        channels.close_all([*self.fds, self.board.fd])
        self.parking.close()


@pytest.fixture(params=["portable", pytest.param("epoll", marks=EPOLL)])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Both implementations."""
    made = World(request.param)
    monkeypatch.setattr(ready_queue, "WAIT_MS", SHORT_MS)
    yield made
    made.close()


@pytest.fixture
def portable_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """What only the portable queue has."""
    made = World("portable")
    monkeypatch.setattr(ready_queue, "WAIT_MS", SHORT_MS)
    yield made
    made.close()


@pytest.fixture
def epoll_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """What only the epoll has."""
    if not AVAILABLE:
        pytest.skip("epoll is Linux's")
    made = World("epoll")
    monkeypatch.setattr(ready_queue, "WAIT_MS", SHORT_MS)
    yield made
    made.close()


def until(question: Callable[[], bool], what: str) -> None:
    """Let the event loop run until it holds."""
    deadline = time.monotonic() + 5
    while not question():
        assert time.monotonic() < deadline, what
        gevent.sleep(0.001)


# -- the way in


def test_auto_is_the_best_there_is() -> None:
    made = parking("auto", Scoreboard.create(1, 1))
    assert isinstance(made, EpollParking if AVAILABLE else WatchedParking)
    made.close()


def test_a_connection_arrives_with_all_that_is_known_of_it(world: World) -> None:
    world.parking.push(world.client(b"GET /", "2001:db8::1"))
    taken = world.take()
    assert taken is not None
    assert (taken.cid, taken.address, taken.port, taken.listener) == (1, "2001:db8::1", "4711", 1)
    assert taken.spooled is None
    assert taken.sock.recv(100) == b"GET /"
    taken.sock.send(b"answer")
    assert world.clients[1].recv(100) == b"answer"


def test_a_connection_goes_to_one_worker(world: World) -> None:
    for _ in range(2):
        world.parking.push(world.client(b"x"))
    got = [world.take(1), world.take(2), world.take(0)]
    assert [taken and taken.cid for taken in got] == [1, 2, None]


def test_a_complete_request_comes_along(world: World) -> None:
    world.parking.push(world.client(), 4, b"head\r\n\r\nbodyrest")
    taken = world.take()
    assert taken is not None
    assert taken.spooled == (b"head\r\n\r\nbodyrest", 4, None)


def test_a_large_body_comes_along_as_a_file(world: World) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"large body")
        file.flush()
        world.parking.push(world.client(), 10, b"head\r\n\r\nrest", file.fileno())
    taken = world.take()
    assert taken is not None
    assert taken.spooled is not None
    assert taken.spooled.file is not None
    assert os.pread(taken.spooled.file, 100, 0) == b"large body"
    os.close(taken.spooled.file)


def test_more_than_the_socket_takes_waits_in_order(world: World) -> None:
    connection = world.client()
    for number in range(60):
        world.parking.push(connection, 0, b"%03d" % number + b"x" * 30_000)
    assert world.waiting() == 60
    got: list[int] = []
    while len(got) < 60:
        taken = world.take_soon(len(got) % SLOTS)
        assert taken.spooled is not None
        got.append(int(taken.spooled.data[:3]))
    assert got == list(range(60))
    assert world.waiting() == 0


def test_an_empty_queue_gives_nothing(world: World) -> None:
    assert world.take() is None
    assert world.waiting() == 0


# -- the next request


def test_a_parked_connection_comes_back_with_its_next_request(world: World) -> None:
    connection = world.parked()
    assert world.board.parked_since(connection.cid) > 0
    assert world.take() is None
    world.clients[1].send(b"second")
    taken = world.take_soon()
    assert (taken.cid, taken.sock.recv(100)) == (1, b"second")
    world.park(taken)
    world.clients[1].send(b"third")
    assert world.take_soon().sock.recv(100) == b"third"


def test_a_parked_connection_that_ends_is_taken(world: World) -> None:
    world.parked()
    world.clients[1].close()
    assert world.take_soon().sock.recv(100) == b""


def test_requests_that_wait_are_counted(world: World) -> None:
    """Three that were handed over, one of them taken, and one parked connection that has something to read."""
    world.parked()
    world.clients[1].send(b"second")
    until(lambda: world.waiting() == 1, "the parked one is counted")
    for _ in range(2):
        world.parking.push(world.client(b"x"))
    assert world.waiting() == 3
    world.take_soon().sock.recv(100)
    assert world.waiting() == 2


def test_what_a_dead_worker_took_does_not_stay_in_the_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appsrv.server.frontend.parking.SETTLED_SECONDS", -1.0)
    world.parking.push(world.client(b"x"))
    assert world.take() is not None
    assert [world.parking.waiting(taken=0) for _ in range(2)] == [0, 0], "numbers that stand still are believed"
    world.parking.push(world.client(b"x"))
    assert world.parking.waiting(taken=0) == 1


def test_only_the_id_of_a_connection_that_all_workers_hold_is_handed_over(portable_world: World) -> None:
    world = portable_world
    world.parked()
    for worker, fds in ((1, 1), (2, 1), (0, 0)):
        world.clients[1].send(b"again")
        until(lambda: world.waiting() == 1, "the request")
        before = len(os.listdir("/dev/fd"))
        taken = world.take_soon(worker)
        assert len(os.listdir("/dev/fd")) == before + fds
        assert taken.sock.recv(100) == b"again"
        world.park(taken, worker)
    assert world.connections[1].holders == set(world.workers)


def test_a_worker_keeps_one_descriptor_of_a_connection(portable_world: World) -> None:
    """Another worker does not hold it yet, so the descriptor comes along again."""
    world = portable_world
    world.parked()
    world.clients[1].send(b"second")
    until(lambda: world.waiting() == 1, "the request")
    before = len(os.listdir("/dev/fd"))
    assert world.take_soon() is world.taken[0]
    assert len(os.listdir("/dev/fd")) == before


def test_a_worker_keeps_half_of_its_descriptors_for_the_application(
    portable_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = portable_world
    monkeypatch.setattr(world.queues[0], "_most", 0)
    connection = world.parked()
    assert world.taken[0].sock.fileno() == -1
    assert connection.holders is None
    world.clients[1].send(b"second")
    assert world.take_soon().sock.recv(100) == b"second"
    assert 0 < ready_queue.most_held() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def test_beyond_that_the_front_end_parks(epoll_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = epoll_world
    monkeypatch.setattr(world.queues[0], "_most", 1)
    world.parked()
    second = world.client(b"first")
    world.parking.push(second)
    taken = world.take_soon()
    taken.sock.recv(100)
    world.queues[0].park(taken, time.monotonic())
    assert taken.sock.fileno() == -1
    assert world.heard() == (connection_messages.Undelivered(2, 1, 0, b""), [])
    world.parking.park(second)
    world.clients[2].send(b"second")
    fds = [second.sock.fileno()]
    lent = borrow(world, 0, lambda cid: world.say(0, connection_messages.DescriptorSent(cid, 1, 0, 1, b"a"), fds))
    assert lent is not None
    assert lent.sock.recv(100) == b"second"


# -- another worker's connection


def borrow(world: World, worker: int, answer: Callable[[int], None]) -> Connection | None:
    """Let a worker take while the front end answers what it asks for."""
    got: list[Connection | None] = []
    thread = threading.Thread(target=lambda: got.append(world.queues[worker].take()))
    thread.start()
    msg, _ = world.ends[worker].receive()
    assert isinstance(msg, connection_messages.DescriptorRequested)
    answer(msg.cid)
    thread.join(5)
    world.taken += [taken for taken in got if taken is not None]
    return got[0]


def test_a_connection_is_borrowed_from_the_front_end(world: World) -> None:
    connection = world.parked()
    world.parking.workers = 1
    world.clients[1].send(b"second")
    until(lambda: world.waiting() == 1, "the request")
    lent = connection_messages.DescriptorSent(1, 4711, 1, 9, b"192.0.2.1")
    taken = borrow(world, 1, lambda _: world.say(1, lent, [connection.sock.fileno()]))
    assert taken is not None
    assert (taken.cid, taken.address, taken.sock.recv(100)) == (1, "192.0.2.1", b"second")
    world.queues[1].park(taken, 1.0)
    assert world.heard(1)[0] == connection_messages.Holding(1)
    connection.holders = {world.workers[0]}
    world.clients[1].send(b"third")
    again = world.take_soon(1)
    assert again is taken, "it holds the connection now"


def test_a_connection_that_has_gone_cannot_be_borrowed(world: World) -> None:
    world.parked()
    world.parking.workers = 1
    world.clients[1].send(b"second")
    until(lambda: world.waiting() == 1, "the request")

    def answer(cid: int) -> None:
        world.say(1, connection_messages.Gone(99))
        world.say(1, connection_messages.Gone(cid))

    assert borrow(world, 1, answer) is None


def test_the_end_of_the_server_ends_a_borrowing(world: World) -> None:
    world.parked()
    world.parking.workers = 1
    world.clients[1].send(b"second")
    until(lambda: world.waiting() == 1, "the request")
    world.ends[1].close()
    with pytest.raises(Orphaned):
        world.take(1)


def test_gone_drops_the_descriptor(world: World) -> None:
    connection = world.parked()
    world.say(0, connection_messages.Gone(1))
    world.queues[0].read_messages()
    world.parking.forget(connection)
    connection.sock.close()
    assert world.clients[1].recv(100) == b"", "nobody holds it any more"


def test_a_retiring_worker_leaves_the_hand_off_socket_to_others(epoll_world: World) -> None:
    world = epoll_world
    world.board.slot(0).retire()
    world.parking.push(world.client(b"x"))
    assert world.take(0) is None
    assert world.take(1) is not None


# -- the way out


def test_an_incomplete_request_is_given_back(world: World) -> None:
    world.parked()
    world.clients[1].send(b"POST / HT")
    taken = world.take_soon()
    world.queues[0].give_back(taken, taken.sock.recv(100))
    assert world.heard() == (connection_messages.GivenBack(1, b"POST / HT"), [])
    world.clients[1].send(b"TP/1.1\r\n")
    assert world.take() is None, "it is the slow lane's now"


def test_a_long_incomplete_request_is_given_back_as_a_file(world: World) -> None:
    world.parking.push(world.client(b"x"))
    taken = world.take()
    assert taken is not None
    data = b"y" * (ready_queue.MOST_INLINE_BYTES + 1)
    world.queues[0].give_back(taken, data)
    msg, (fd,) = world.heard()
    assert (msg, os.pread(fd, len(data) + 1, 0)) == (connection_messages.GivenBack(1, b""), data)
    os.close(fd)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no files in memory here")
def test_giving_back_needs_no_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    world.parking.push(world.client(b"x"))
    taken = world.take()
    assert taken is not None
    world.queues[0].give_back(taken, b"y" * (ready_queue.MOST_INLINE_BYTES + 1))
    channels.close_all(world.heard()[1])


@pytest.mark.parametrize("rest", [True, False])
def test_what_the_front_end_is_to_go_on_with_does_not_count_as_idle(world: World, rest: bool) -> None:
    world.parked()
    world.clients[1].send(b"second")
    taken = world.take_soon()
    if rest:
        world.queues[0].undelivered(taken, b"the rest", [], keep_alive=True)
    else:
        world.queues[0].give_back(taken, taken.sock.recv(100))
    assert world.board.parked_since(1) <= 0.0


def test_the_rest_of_a_response_is_handed_over(world: World) -> None:
    world.parking.push(world.client(b"x"))
    taken = world.take()
    assert taken is not None
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        world.queues[0].undelivered(taken, b"first", [(file.fileno(), 2, 5)], keep_alive=True)
    msg, (fd,) = world.heard()
    assert msg == connection_messages.Undelivered(1, 1, 1, struct.pack("<QQ", 2, 5) + b"first")
    assert os.pread(fd, 10, 0) == b"0123456789"
    os.close(fd)


def test_a_connection_that_was_left_goes_to_another_worker(world: World) -> None:
    world.parking.push(world.client(b"x"))
    taken = world.take()
    assert taken is not None
    world.queues[0].pass_on(taken)
    assert world.heard()[0] == connection_messages.Holding(1)
    if world.kind == "portable":
        assert world.take_soon(1).sock.recv(1) == b"x"


@pytest.mark.parametrize("linger", [False, True])
def test_the_front_end_hears_of_an_end(world: World, linger: bool) -> None:
    world.parked()
    world.clients[1].send(b"x")
    taken = world.take_soon()
    world.queues[0].close(taken, linger=linger)
    assert taken.sock.fileno() == -1
    if not linger:
        # The client has seen the end; that of the server's descriptor may be told together with others.
        assert world.clients[1].recv(1) == b""
        world.queues[0].flush()
    expected = connection_messages.Closed(1, 1) if linger else connection_messages.ClosedAll(1, struct.pack("<Q", 1))
    assert world.heard()[0] == expected


def test_a_reset_reaches_the_client(world: World) -> None:
    """Over TCP: the client of a response that is not whole sees an error, not an end."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ours, _ = server.accept()
        world.parking.push(ClientConnection(1, ours, "", 0, 0))
        taken = world.take()
        assert taken is not None
        world.queues[0].close(taken, reset=True)
        ours.close()
        with pytest.raises(ConnectionResetError):
            client.recv(10)


# -- the server is gone


def test_the_end_of_the_hand_off_socket_is_told(world: World) -> None:
    world.parking.ours.close()
    with pytest.raises(Orphaned):
        world.take()


def test_every_worker_is_told_of_the_end(world: World) -> None:
    """Not only the first that looks: the others would go on serving the connections they hold."""
    world.parking.ours.close()
    for worker in range(SLOTS):
        with pytest.raises(Orphaned):
            world.take(worker)


def test_the_end_of_the_channel_is_told(world: World) -> None:
    world.parking.push(world.client(b"x"))
    taken = world.take()
    assert taken is not None
    world.ends[0].close()
    with pytest.raises(Orphaned):
        world.queues[0].read_messages()
    world.queues[0].close(taken)
    with pytest.raises(Orphaned):
        world.queues[0].flush()


def test_ends_are_told_several_at_once(world: World) -> None:
    for _ in range(ready_queue.CLOSED_PER_MESSAGE):
        world.parking.push(world.client(b"x"))
        taken = world.take()
        assert taken is not None
        world.queues[0].close(taken)
    told = world.heard()[0]
    assert isinstance(told, connection_messages.ClosedAll)
    assert told.count == ready_queue.CLOSED_PER_MESSAGE == len(set(struct.iter_unpack("<Q", told.data)))


# -- taking back, losing, recovering


def test_requests_are_stolen_back(world: World) -> None:
    for _ in range(3):
        world.parking.push(world.client(b"x"))
    assert len(list(world.parking.take_back(2))) == 2
    assert world.waiting() == 1
    assert [item.cid for item in world.parking.take_back(9)] == [3]
    assert (world.waiting(), list(world.parking.take_back(9))) == (0, [])
    assert world.take() is None


def test_parked_connections_with_a_request_are_stolen_too(epoll_world: World) -> None:
    world = epoll_world
    world.parked()
    world.clients[1].send(b"second")
    world.parking.push(world.client(b"x"))
    assert {item.cid for item in world.parking.take_back(9)} == {1, 2}
    world.parking.push(world.client(b"x"))
    taken = world.take()
    assert taken is not None, "the door is open again"
    assert taken.cid == 3


def test_what_did_not_fit_into_the_socket_is_stolen_too(world: World) -> None:
    before = len(os.listdir("/dev/fd"))
    connection = world.client()
    for _ in range(60):
        world.parking.push(connection, 0, b"x" * 30_000)
    assert len(list(world.parking.take_back(100))) == 60
    assert world.waiting() == 0
    assert len(os.listdir("/dev/fd")) <= before + 2


def test_what_is_put_back_keeps_its_order_its_body_and_its_age(world: World) -> None:
    with tempfile.TemporaryFile() as body:
        body.write(b"spooled")
        body.flush()
        world.parking.push(world.client(), 7, b"POST / HTTP/1.1\r\n\r\n", body.fileno())
    world.parking.push(world.client(b"x"))
    ages = world.parking.queued()
    before = len(os.listdir("/dev/fd"))
    for item in list(world.parking.take_back()):
        world.parking.put_back(world.connections[item.cid], item)
    assert world.parking.queued() == ages
    assert len(os.listdir("/dev/fd")) == before
    assert world.waiting() == 2
    first, second = world.take(), world.take()
    assert (first and first.cid, second and second.cid) == (1, 2)
    assert first is not None
    assert first.spooled is not None
    assert first.spooled.file is not None
    assert os.pread(first.spooled.file, 99, 0) == b"spooled"
    os.close(first.spooled.file)


def test_a_request_on_a_parked_connection_can_be_put_back(epoll_world: World) -> None:
    world = epoll_world
    connection = world.parked()
    world.clients[1].send(b"second")
    assert world.waiting() == 1
    (item,) = world.parking.take_back()
    assert world.take() is None
    world.parking.put_back(connection, item)
    taken = world.take()
    assert taken is not None
    assert taken.sock.recv(99) == b"second"


def test_since_when_requests_wait(world: World) -> None:
    before = time.monotonic()
    world.parking.push(world.client(b"x"))
    world.parking.push(world.client(b"x"))
    assert world.waiting() == 2
    (one, since), (two, _) = world.parking.queued()
    assert (one, two) == (1, 2)
    assert before <= since <= time.monotonic()
    world.take()
    world.waiting()
    assert [cid for cid, _ in world.parking.queued()] == [2]


def test_since_when_a_request_waits_on_a_parked_connection(epoll_world: World) -> None:
    world = epoll_world
    world.parked()
    world.clients[1].send(b"second")
    world.waiting()
    first = world.parking.queued()
    assert [cid for cid, _ in first] == [1]
    world.waiting()
    assert world.parking.queued() == first
    taken = world.take()
    assert taken is not None
    assert taken.sock.recv(99) == b"second"
    world.park(taken)
    world.clients[1].send(b"third")
    world.waiting()
    assert world.parking.queued()[0][1] > first[0][1], "another request, another age"


def test_a_client_that_closed_with_a_request_unanswered_waits_until_it_is_known_to_be_away(epoll_world: World) -> None:
    world = epoll_world
    world.parked()
    world.clients[1].send(b"second")
    world.clients[1].shutdown(socket.SHUT_WR)
    assert world.waiting() == 1
    world.clients[1].close()
    assert world.waiting() == 0


def test_a_lost_connection_is_found_and_taken_again(world: World) -> None:
    """A worker dies between taking a connection and saying so in the scoreboard."""
    connection = world.client(b"hello")
    world.parking.push(connection)
    assert world.parking.lost(world.connections, set()) == [], "it still waits"
    assert world.take() is not None
    assert world.parking.lost(world.connections, {1}) == [], "somebody serves it"
    assert world.parking.lost(world.connections, set()) == [connection]
    connection.lane = True
    assert world.parking.lost(world.connections, set()) == [], "a lane works on it"
    connection.lane = False
    world.parking.recover(connection)
    if world.kind == "epoll":
        lent = connection_messages.DescriptorSent(1, 4711, 1, 0, b"")
        taken = borrow(world, 1, lambda _: world.say(1, lent, [connection.sock.fileno()]))
    else:
        taken = world.take(1)
    assert taken is not None
    assert taken.sock.recv(100) == b"hello"


def test_parked_connections_are_not_lost(world: World) -> None:
    world.parked()
    assert world.parking.lost(world.connections, set()) == []


def test_the_door_is_opened_again_after_a_death(epoll_world: World) -> None:
    """A worker dies with the hand-off socket's event in its hand."""
    world = epoll_world
    dead = SharedEpoll(world.parking.fds_for_workers()[2])
    world.parking.push(world.client(b"x"))
    assert dead.waiter().next(0) == HAND_OFF
    assert world.take() is None
    world.parking.worker_died()
    assert world.take() is not None


def test_a_forgotten_connection_fires_no_more(world: World) -> None:
    connection = world.client()
    world.parking.park(connection)
    world.parking.forget(connection)
    world.clients[1].send(b"x")
    gevent.sleep(0)
    assert world.take(1) is None


def test_the_workers_descriptor_is_readable_when_something_waits(world: World) -> None:
    poll = select.poll()
    poll.register(world.queues[1].fileno(), select.POLLIN)
    assert poll.poll(0) == []
    world.parking.push(world.client(b"x"))
    assert poll.poll(0)


def test_the_queue_knows_every_message_from_the_server() -> None:
    """They are handled in a branch, without a dispatcher that would notice a new message."""
    known = {connection_messages.Gone, connection_messages.DescriptorSent}
    assert message_format.messages_of(directions.SERVER_TO_WORKER) == known
