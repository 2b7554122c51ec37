"""parking.py: connections on their way to workers and back, seen from the front end alone.

The test plays the workers, with their end of the hand-off socket, the scoreboard, and the release pipe or the shared
epoll. `test_ready_queue.py` has both sides.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, message_format
from appsrv.ipc.channel import Receiver
from appsrv.ipc.hand_off import HAND_OFF
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.shared_epoll import AVAILABLE, SharedEpoll
from appsrv.server.frontend.parking import ClientConnection, EpollParking, Queued, WatchedParking, parking

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
KINDS = ["portable", pytest.param("epoll", marks=pytest.mark.skipif(not AVAILABLE, reason="epoll is Linux's"))]


class World:
    """A parking of this kind with a clock that stands still, its clients, and the workers' end of its socket."""

    def __init__(self, kind: str) -> None:
        self.now = 1000.0
        self.board = Scoreboard.create(2, 1)
        self.parking = parking(kind, self.board, lambda: self.now)
        self.connections: dict[int, ClientConnection] = {}
        self.parking.connections = self.connections
        self.parking.workers = 2
        self.receiver = Receiver(self.parking.theirs)
        self.clients: list[socket.socket] = []

    def client(self, data: bytes = b"") -> ClientConnection:
        """A client that has connected and sent this."""
        ours, client = socket.socketpair()
        ours.setblocking(False)
        client.send(data)
        self.clients.append(client)
        cid = len(self.clients)
        connection = self.connections[cid] = ClientConnection(cid, ours, "192.0.2.1", 4711, 3)
        return connection

    def received(self) -> tuple[Message, int] | None:
        """The next message for a worker and how many descriptors came with it."""
        try:
            data, fds = self.receiver.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        channels.close_all(fds)
        return message_format.unpack(data), len(fds)

    def next(self) -> tuple[Message, int]:
        """The same, where there has to be one."""
        received = self.received()
        assert received is not None
        return received

    def arm(self) -> None:
        """Let the hand-off socket fire once in the shared epoll, as a worker does that waits for the first time."""
        assert isinstance(self.parking, EpollParking)
        self.parking._hand_off_entry.arm()

    def all_received(self) -> list[Any]:
        """The connections of all messages for workers, in order; the kept ones are sent meanwhile."""
        found: list[Any] = []
        self.until(lambda: self._receive_into(found) is None and not self.parking._waiting, "all has been sent")
        return found

    def _receive_into(self, found: list[Any]) -> object:
        received = self.received()
        if received is not None:
            found.append(received[0].cid)  # type: ignore[attr-defined]
        return received

    def until(self, question: Callable[[], object], what: str) -> None:
        """Let the event loop run until the answer is true."""
        deadline = time.monotonic() + 5
        while not question():
            assert time.monotonic() < deadline, what
            gevent.sleep(0.001)

    def close(self) -> None:
        for connection in self.connections.values():
            self.parking.forget(connection)
            connection.sock.close()
        for client in self.clients:
            client.close()
        self.parking.close()


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.close()


@pytest.fixture
def watched() -> Iterator[World]:
    made = World("portable")
    yield made
    made.close()


@pytest.fixture
def epoll() -> Iterator[World]:
    if not AVAILABLE:
        pytest.skip("epoll is Linux's")
    made = World("epoll")
    yield made
    made.close()


# -- both kinds: the hand-off socket ----------------------------------------------------------------------------------


def test_a_worker_is_sent_the_connection_and_what_is_known_of_it(world: World) -> None:
    world.parking.push(world.client(GET))
    assert world.received() == (connection_messages.HandOff(1, 4711, 3, 0, 9, b"192.0.2.1"), 1)
    assert world.board.parked_since(1) == -1000.0, "below zero: it waits for a worker since then"
    with tempfile.TemporaryFile() as file:
        world.parking.push(world.client(), 5, GET, os.dup(file.fileno()))
        assert world.received() == (connection_messages.HandOff(2, 4711, 3, 5, 9, b"192.0.2.1" + GET), 2)


def fill(world: World) -> int:
    """Push until the socket takes no more, and three beyond; how many there are."""
    count = 0
    while len(world.parking._waiting) < 3:
        world.parking.push(world.client(), 0, b"x" * 50_000)
        count += 1
    return count


def test_what_the_socket_does_not_take_is_sent_later_and_in_order(world: World) -> None:
    count = fill(world)
    assert world.parking.waiting(0) == count
    for connection in world.connections.values():
        # Kept with descriptors of their own: the front end may have closed the connection.
        connection.sock.close()
    assert world.all_received() == list(range(1, count + 1))
    world.connections.clear()


def test_requests_that_workers_have_counted_do_not_wait(world: World) -> None:
    for at in (0.0, 1.0, 2.0):
        world.now = 1000.0 + at
        world.parking.push(world.client(GET))
    assert (world.parking.waiting(0), world.parking.queued()) == (3, [(1, 1000.0), (2, 1001.0), (3, 1002.0)])
    world.received()
    assert (world.parking.waiting(1), world.parking.queued()) == (2, [(2, 1001.0), (3, 1002.0)])
    world.all_received()
    assert (world.parking.waiting(3), world.parking.queued()) == (0, [])


def test_a_request_that_a_dead_worker_took_uncounted_is_no_longer_waited_for(world: World) -> None:
    world.parking.push(world.client(GET))
    world.received()
    assert world.parking.waiting(0) == 0, "the socket is empty"
    world.now += 1.0
    assert world.parking.waiting(0) == 0
    world.parking.push(world.client(GET))
    world.parking.push(world.client(GET))
    world.received()
    assert world.parking.waiting(1) == 1, "the lost one is not counted along"


def test_a_count_that_has_just_changed_is_not_believed(world: World) -> None:
    world.parking.push(world.client(GET))
    world.received()
    world.parking.waiting(0)
    world.now += 0.01
    world.parking.waiting(0)
    world.parking.push(world.client(GET))
    world.parking.push(world.client(GET))
    assert world.parking.waiting(1) == 2, "the worker had taken the first one and not yet counted it"


def test_requests_are_taken_back_the_oldest_first(world: World) -> None:
    count = fill(world)
    world.now += 5.0
    first, second = world.parking.take_back(2)
    assert (first.cid, second.cid, first.since) == (1, 2, 1000.0)
    assert (first.read, first.file) == (b"x" * 50_000, None)
    assert [item.cid for item in world.parking.take_back()] == list(range(3, count + 1))
    assert list(world.parking.take_back()) == []


def test_a_request_that_was_taken_back_can_be_put_back_with_its_age_and_its_body(world: World) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"a long body")
        file.flush()
        world.parking.push(world.client(), 11, GET, file.fileno())
    world.now += 5.0
    (item,) = world.parking.take_back()
    world.parking.put_back(world.connections[1], item)
    assert world.parking.queued() == [(1, 1000.0)]
    data, (sock, body) = world.receiver.receive(socket.MSG_DONTWAIT)
    assert connection_messages.HandOff.unpack(data).body == 11
    assert os.pread(body, 100, 0) == b"a long body"
    channels.close_all((sock, body))


def test_a_request_that_is_discarded_gives_up_its_body() -> None:
    read, write = os.pipe()
    Queued(1, 1000.0, b"", read).discard()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    os.close(write)


def test_workers_see_the_end(world: World) -> None:
    theirs = world.parking.theirs.dup()
    world.parking.ours.close()
    assert theirs.recv(1) == b""
    theirs.close()


def test_the_settings_kind_is_the_reports_kind(world: World) -> None:
    assert type(world.parking) is {"portable": WatchedParking, "epoll": EpollParking}[world.parking.kind]
    with_descriptors = world.parking.fds_for_workers()
    assert with_descriptors[:2] == [world.parking.theirs.fileno(), world.board.fd]
    assert len(with_descriptors) == 3


# -- portable: the server watches idle connections --------------------------------------------------------------------


def test_an_idle_connection_is_handed_over_when_it_has_a_request(watched: World) -> None:
    watched.parking.park(watched.client())
    gevent.sleep(0.01)
    assert watched.received() is None
    watched.clients[0].send(GET)
    watched.until(lambda: watched.parking.queued(), "it is readable")
    assert watched.received() == (connection_messages.HandOff(1, 4711, 3, 0, 9, b"192.0.2.1"), 1)
    assert watched.connections[1].watch is False, "not watched until it is parked again"


def test_of_a_connection_that_every_worker_holds_only_the_number_is_sent(watched: World) -> None:
    holders: Any = [object(), object()]
    connection = watched.client(GET)
    connection.holders = {holders[0]}
    watched.parking.park(connection)
    watched.until(lambda: watched.parking.queued(), "it is readable")
    assert type(watched.next()[0]) is connection_messages.HandOff, "the other worker has no descriptor of it"
    connection.holders = set(holders)
    watched.parking.park(connection)
    watched.until(lambda: len(watched.parking.queued()) == 2, "it is readable")
    assert watched.received() == (connection_messages.Readable(1), 0)


def test_a_released_connection_is_watched_again(watched: World) -> None:
    connection = watched.client()
    watched.parking.park(connection)
    watched.clients[0].send(GET)
    watched.until(lambda: connection.watch is False, "it was handed over")
    connection.sock.recv(1000)
    releasing = watched.parking.fds_for_workers()[2]
    os.write(releasing, connection_messages.RELEASED.pack(1) + connection_messages.RELEASED.pack(99))
    watched.until(lambda: connection.watch is True, "a worker has released it")


def test_a_client_that_closes_its_idle_connection_is_no_request(watched: World) -> None:
    gone: list[ClientConnection] = []
    assert isinstance(watched.parking, WatchedParking)
    watched.parking.gone = gone.append
    watched.parking.park(watched.client())
    watched.clients[0].close()
    watched.until(lambda: gone, "the end was seen")
    assert (gone, watched.received()) == ([watched.connections[1]], None)


def test_a_request_before_the_end_of_a_client_is_one(watched: World) -> None:
    watched.parking.park(watched.client(GET))
    watched.clients[0].shutdown(socket.SHUT_WR)
    watched.until(lambda: watched.parking.queued(), "it was handed over")


def test_a_forgotten_connection_is_not_watched(watched: World) -> None:
    connection = watched.client()
    watched.parking.park(connection)
    watched.parking.forget(connection)
    watched.clients[0].send(GET)
    gevent.sleep(0.02)
    assert (watched.received(), connection.watch) == (None, None)


def test_what_neither_a_worker_nor_the_server_has_is_lost(watched: World) -> None:
    parked, lane, busy, lost = (watched.client() for _ in range(4))
    watched.parking.park(parked)
    lane.lane = True
    assert watched.parking.lost(watched.connections, {busy.cid}) == [lost]
    watched.parking.recover(lost)
    assert watched.parking.lost(watched.connections, {busy.cid}) == [], "it waits for a worker"
    assert watched.next()[0] == connection_messages.HandOff(4, 4711, 3, 0, 9, b"192.0.2.1")


# -- epoll: workers wait for idle connections themselves --------------------------------------------------------------


def park(world: World, connection: ClientConnection) -> None:
    """As the back end does."""
    world.board.park(connection.cid, world.now)
    world.parking.park(connection)


def test_an_idle_connection_with_a_request_fires_once(epoll: World) -> None:
    waiter = SharedEpoll(epoll.parking.fds_for_workers()[2]).waiter()
    connection = epoll.client()
    park(epoll, connection)
    assert waiter.next(0) is None
    epoll.clients[0].send(GET)
    assert (waiter.next(1000), waiter.next(0)) == (1, None)
    park(epoll, connection)
    assert waiter.next(1000) == 1, "armed again"
    epoll.parking.forget(connection)
    assert (connection.watch, waiter.next(0)) == (None, None)


def test_idle_connections_with_a_request_wait_as_well(epoll: World) -> None:
    for _ in range(3):
        park(epoll, epoll.client())
    assert epoll.parking.waiting(0) == 0
    epoll.now = 1007.0
    epoll.clients[1].send(GET)
    epoll.clients[2].close()
    assert (epoll.parking.waiting(0), epoll.parking.queued()) == (1, [(2, 1007.0)]), "the end of a client is none"
    epoll.parking.push(epoll.client(GET))
    assert epoll.parking.waiting(0) == 2
    epoll.now = 1009.0
    assert epoll.parking.waiting(0) == 2
    assert epoll.parking.queued() == [(4, 1007.0), (2, 1007.0)]


def test_requests_are_taken_back_from_the_epoll_too(epoll: World) -> None:
    park(epoll, epoll.client(GET))
    epoll.parking.push(epoll.client(GET))
    epoll.arm()
    epoll.parking.waiting(0)
    items = list(epoll.parking.take_back())
    assert sorted((item.cid, bool(item.order), item.since) for item in items) == [(1, False, 1000.0), (2, True, 1000.0)]
    (parked,) = [item for item in items if not item.order]
    epoll.parking.put_back(epoll.connections[1], parked)
    waiter = SharedEpoll(epoll.parking.fds_for_workers()[2]).waiter()
    assert waiter.next(1000) == 1


def test_a_worker_that_died_leaves_the_hand_off_socket_to_others(epoll: World) -> None:
    waiter = SharedEpoll(epoll.parking.fds_for_workers()[2]).waiter()
    epoll.arm()
    epoll.parking.push(epoll.client(GET))
    assert (waiter.next(1000), waiter.next(0)) == (HAND_OFF, None), "a worker has it, and dies"
    epoll.parking.worker_died()
    assert waiter.next(1000) == HAND_OFF


def test_what_has_a_request_and_fires_no_more_is_lost(epoll: World) -> None:
    waiter = SharedEpoll(epoll.parking.fds_for_workers()[2]).waiter()
    idle, taken, busy = (epoll.client() for _ in range(3))
    for connection in (idle, taken):
        park(epoll, connection)
    epoll.clients[1].send(GET)
    assert epoll.parking.lost(epoll.connections, {busy.cid}) == [], "a worker may be about to take it"
    assert waiter.next(1000) == taken.cid
    assert epoll.parking.lost(epoll.connections, {busy.cid}) == [taken]
    epoll.parking.recover(taken)
    assert waiter.next(1000) == taken.cid


def test_a_scoreboard_says_since_when_a_connection_is_parked(epoll: World) -> None:
    connection = epoll.client(GET)
    park(epoll, connection)
    epoll.now = 1003.0
    assert (epoll.parking.waiting(0), epoll.parking.queued()) == (1, [(1, 1003.0)])
    # Taken, answered and parked again with the next request there already.
    epoll.now = 1004.0
    park(epoll, connection)
    epoll.now = 1005.0
    assert (epoll.parking.waiting(0), epoll.parking.queued()) == (1, [(1, 1004.0)])


def test_what_the_slow_lane_has_read_can_be_read_again() -> None:
    order = connection_messages.HandOff(1, 2, 3, 0, 3, b"::1" + GET).pack()
    assert Queued(1, 0.0, order).read == GET
    assert Queued(1, 0.0, connection_messages.Readable(1).pack()).read == b""
