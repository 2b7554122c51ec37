"""The front end's side of the ready queue: passes connections to workers, and parks idle ones.

`worker.ready_queue` is the workers' side. Both have the same two implementations. This module knows connections and
counts. It knows neither HTTP nor which workers there are.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gevent import get_hub

from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, message_format
from appsrv.ipc.channel import DescriptorsLost, Receiver
from appsrv.ipc.hand_off import HAND_OFF, hand_off_pair
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.idle_poller import IdlePoller
from appsrv.net.shared_epoll import AVAILABLE, Registration, SharedEpoll
from appsrv.system.readiness import has_input

if TYPE_CHECKING:
    from appsrv.server.frontend.backend import BackEnd, WorkerDelivery

READABLE, WRITABLE = 1, 2
_SHUT = getattr(select, "POLLRDHUP", 0)
# `GONE`: the client has reset or closed the connection. `ENDED`: or it has shut down its sending side, and may still
# read.
GONE = select.POLLHUP | select.POLLERR
ENDED = GONE | _SHUT
SETTLED_SECONDS = 0.1
RELEASED_BYTES_PER_READ = 4096

_READABLE = connection_messages.Readable.LAYOUT.pack

Clock = Callable[[], float]


class ClientConnection:
    """A client's connection, from accept to close.

    `lane`: a greenlet of the server works on it. `asked`: the server has sent bytes that find out whether the client is
    still there. `cut`: resets the client's connection where a reset of `sock` would not reach it, as behind a TLS
    relay. `backend`: that of its last request. `holders`: the workers that keep a descriptor of it.
    """

    __slots__ = ("address", "asked", "backend", "cid", "cut", "holders", "lane", "listener", "port", "sock", "watch")

    def __init__(self, cid: int, sock: socket.socket, address: str, port: int, listener: int) -> None:
        self.cid = cid
        self.sock = sock
        self.address = address
        self.port = port
        self.listener = listener
        self.lane = False
        self.asked = False
        self.cut: Callable[[], None] | None = None
        self.backend: BackEnd | None = None
        self.holders: set[WorkerDelivery] | None = None
        self.watch: Any = None


@dataclass(frozen=True)
class Queued:
    """A request that waited for a worker. `order`: the message to the worker; `file`: the spooled body that belongs to
    it.

    Without an `order` it is the next request of a parked connection. `since` is monotonic.
    """

    cid: int
    since: float
    order: bytes = b""
    file: int | None = None

    @property
    def read(self) -> bytes:
        """The bytes of the request that the slow lane has read: all of them or none."""
        if self.order[:1] != bytes([connection_messages.HandOff.TAG]):
            return b""
        msg = connection_messages.HandOff.unpack(self.order)
        return msg.data[msg.peer :]

    def discard(self) -> None:
        """Drop the request: no worker is to serve it."""
        if self.file is not None:
            os.close(self.file)


class Parking:
    """The part that both implementations share: the hand-off socket and the count of the requests in it.

    The back end sets `connections`, all of its group, and `workers`, how many of them take connections.
    """

    kind = ""

    def __init__(self, board: Scoreboard, clock: Clock = time.monotonic) -> None:
        self.board = board
        self._clock = clock
        self.ours, self.theirs = hand_off_pair()
        self.connections: Mapping[int, ClientConnection] = {}
        self.workers = 0
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._handed_over: deque[tuple[int, float]] = deque()
        self._reader = Receiver(self.theirs)
        self._writable: Any = get_hub().loop.io(self.ours.fileno(), WRITABLE)
        self._pushed = 0
        self._settled = (0, 0)
        self._settled_at = 0.0

    def fds_for_workers(self) -> list[int]:
        """The descriptors that `messages.Attach` carries."""
        return [self.theirs.fileno(), self.board.fd]

    def push(self, connection: ClientConnection, body: int = 0, data: bytes = b"", file: int | None = None) -> None:
        """Pass the connection to the worker that is free first."""
        peer = connection.address.encode()
        msg = connection_messages.HandOff(
            connection.cid, connection.port, connection.listener, body, len(peer), peer + data
        )
        fds = [connection.sock.fileno()] if file is None else [connection.sock.fileno(), file]
        self._push(connection.cid, msg.pack(), fds, self._clock())

    def _push(self, cid: int, data: bytes, fds: Sequence[int], since: float) -> None:
        self.board.park(cid, -since)
        self._pushed += 1
        self._handed_over.append((cid, since))
        if self._waiting or not self._try(data, fds):
            self._keep(data, fds)

    def waiting(self, taken: int) -> int:
        """How many requests no worker has taken yet. `taken`: the sum of the hand-off counters of all workers."""
        raise NotImplementedError

    def park(self, connection: ClientConnection) -> None:
        """Wait for the next request of the connection, then push it."""
        raise NotImplementedError

    def forget(self, connection: ClientConnection) -> None:
        """Stop waiting for a request: the connection is about to be closed."""

    def queued(self) -> list[tuple[int, float]]:
        """(connection id, since when) of each request that no worker has taken, at the last count."""
        return list(self._handed_over)

    def take_back(self, most: int | None = None) -> Iterator[Queued]:
        """Take requests back from the workers, the oldest first: up to `most`, or all."""
        while most is None or most > 0:
            item = self._take_one_back()
            if item is None:
                return
            most = None if most is None else most - 1
            yield item

    def put_back(self, connection: ClientConnection, item: Queued) -> None:
        """Pass a request on that was taken back. Several are served in the order of the calls."""
        if not item.order:
            self.park(connection)
            return
        fds = [connection.sock.fileno()] if item.order[0] == connection_messages.HandOff.TAG else []
        self._push(item.cid, item.order, fds if item.file is None else [*fds, item.file], item.since)
        item.discard()

    def lost(self, connections: Mapping[int, ClientConnection], busy: set[int]) -> list[ClientConnection]:
        """Connections that a dead worker had taken without a trace: neither a worker nor this process has them."""
        raise NotImplementedError

    def recover(self, connection: ClientConnection) -> None:
        """Pass a lost connection on again."""
        raise NotImplementedError

    def worker_died(self) -> None:
        """Let other workers read the hand-off socket, where a dead one was the only one that could."""

    def close(self) -> None:
        """Pass no connection on any more. Workers see the end of the hand-off socket."""
        self._writable.stop()
        self.ours.close()
        self.theirs.close()

    def _unread(self) -> bool:
        return bool(unread_bytes(self.theirs.fileno()))

    def _in_hand_off(self, taken: int) -> int:
        if self._unread():
            count = max(1, self._pushed - taken)
        else:
            self._recount(taken)
            count = len(self._waiting)
        while len(self._handed_over) > count:
            self._handed_over.popleft()
        return count

    def _recount(self, taken: int) -> None:
        """The hand-off socket is empty. Correct the count of requests that are in it.

        A worker that was killed between taking a request and counting it makes the count too high for ever. A live
        worker, too, counts a moment after it has taken, so that the count is only corrected when it has not changed for
        SETTLED_SECONDS.
        """
        now = self._clock()
        if (self._pushed, taken) != self._settled:
            self._settled, self._settled_at = (self._pushed, taken), now
        elif now - self._settled_at > SETTLED_SECONDS:
            self._pushed = taken + len(self._waiting)

    def _take_one_back(self) -> Queued | None:
        try:
            data, fds = self._reader.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._taken_back(*self._waiting.popleft()) if self._waiting else None
        except DescriptorsLost as error:
            return self._taken_back(error.data, ())
        return self._taken_back(data, fds)

    def _taken_back(self, data: bytes, fds: Sequence[int]) -> Queued:
        self._pushed -= 1
        channels.close_all(fds[:1])
        cid = _cid_of(data)
        return Queued(cid, self._since(cid), data, fds[1] if len(fds) > 1 else None)

    def _since(self, wanted: int) -> float:
        # Requests that a worker has taken and not yet counted are before the wanted one.
        while self._handed_over:
            cid, since = self._handed_over.popleft()
            if cid == wanted:
                return since
        return self._clock()

    def _try(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            channels.send(self.ours, data, fds)
        except BlockingIOError:
            return False
        return True

    def _keep(self, data: bytes, fds: Sequence[int]) -> None:
        # Duplicated: the front end may close the connection before there is room in the socket.
        self._waiting.append((data, [os.dup(fd) for fd in fds]))
        if not self._writable.active:
            self._writable.start(self._flush)

    def _flush(self) -> None:
        while self._waiting:
            data, fds = self._waiting[0]
            if not self._try(data, fds):
                return
            self._waiting.popleft()
            channels.close_all(fds)
        self._writable.stop()


class WatchedParking(Parking):
    """Portable: the server watches each idle connection. Workers write the ids of those they have parked to the release
    pipe.

    Of a connection that every worker holds only the id is sent. The `watch` of a connection: whether it is watched now;
    None if it never was.
    """

    kind = "portable"

    def __init__(self, board: Scoreboard, clock: Clock = time.monotonic) -> None:
        super().__init__(board, clock)
        self.gone: Callable[[ClientConnection], None] = self.push
        self._released, self._releasing = os.pipe()
        self._watched: dict[int, ClientConnection] = {}
        self._watch = IdlePoller()
        self._watch.add_permanent(self._released)
        self._turn: Any = get_hub().loop.io(self._watch.fileno(), READABLE)
        self._turn.start(self._on_readable)

    def fds_for_workers(self) -> list[int]:
        return [*super().fds_for_workers(), self._releasing]

    def waiting(self, taken: int) -> int:
        return self._in_hand_off(taken)

    def park(self, connection: ClientConnection) -> None:
        fd = connection.sock.fileno()
        if connection.watch is None:
            self._watched[fd] = connection
            self._watch.add(fd)
        else:
            self._watch.rearm(fd)
        connection.watch = True

    def _on_readable(self) -> None:
        for fd, ended in self._watch.ready():
            connection = self._watched.get(fd)
            if connection is not None:
                self._readable(connection, ended)
            elif fd == self._released:
                self._park_released()

    def _park_released(self) -> None:
        for (cid,) in connection_messages.RELEASED.iter_unpack(os.read(self._released, RELEASED_BYTES_PER_READ)):
            connection = self.connections.get(cid)
            if connection is not None:
                self.park(connection)

    def _readable(self, connection: ClientConnection, ended: int) -> None:
        connection.watch = False
        if ended and _has_ended(connection.sock):
            self.gone(connection)
        elif connection.holders is not None and len(connection.holders) == self.workers:
            readable = _READABLE(connection_messages.Readable.TAG, connection.cid)
            self._push(connection.cid, readable, (), self._clock())
        else:
            self.push(connection)

    def forget(self, connection: ClientConnection) -> None:
        if connection.watch is not None:
            fd = connection.sock.fileno()
            self._watch.remove(fd)
            del self._watched[fd]
            connection.watch = None

    def lost(self, connections: Mapping[int, ClientConnection], busy: set[int]) -> list[ClientConnection]:
        if self._waiting or self._unread():
            return []
        return [c for c in connections.values() if not (c.lane or c.cid in busy or c.watch)]

    def recover(self, connection: ClientConnection) -> None:
        self.push(connection)

    def close(self) -> None:
        super().close()
        self._turn.stop()
        self._watch.close()
        channels.close_all((self._released, self._releasing))


class EpollParking(Parking):
    """Linux: idle connections are in the epoll instance in which all workers wait."""

    kind = "epoll"

    def __init__(self, board: Scoreboard, clock: Clock = time.monotonic) -> None:
        super().__init__(board, clock)
        self._epoll = SharedEpoll.create()
        self._waiter = self._epoll.waiter()
        self._hand_off_entry = self._epoll.register(self.theirs.fileno(), HAND_OFF)
        self._ready: dict[int, float] = {}

    def fds_for_workers(self) -> list[int]:
        return [*super().fds_for_workers(), self._epoll.fd]

    def waiting(self, taken: int) -> int:
        if not has_input(self._epoll.fd):
            self._ready.clear()
            return self._in_hand_off(taken)
        parked = [c for c in self.connections.values() if self._is_parked(c)]
        self._remember(_ready(parked))
        return self._in_hand_off(taken) + len(self._ready)

    def queued(self) -> list[tuple[int, float]]:
        return [*super().queued(), *self._ready.items()]

    def _remember(self, ready: Iterable[ClientConnection]) -> None:
        """Keep since when each connection has had a request. One that was parked meanwhile has a new request."""
        now, before, parked_since = self._clock(), self._ready, self.board.parked_since
        self._ready = {c.cid: max(before.get(c.cid, now), parked_since(c.cid)) for c in ready}

    def park(self, connection: ClientConnection) -> None:
        registration: Registration | None = connection.watch
        if registration is None:
            registration = connection.watch = self._epoll.register(connection.sock.fileno(), connection.cid)
        registration.arm()

    def forget(self, connection: ClientConnection) -> None:
        if connection.watch is not None:
            connection.watch.forget()
            connection.watch = None

    def lost(self, connections: Mapping[int, ClientConnection], busy: set[int]) -> list[ClientConnection]:
        # As long as the epoll instance fires, a readable connection may only be waiting for a worker.
        if self._waiting or self._unread() or has_input(self._epoll.fd):
            return []
        left = [c for c in connections.values() if not c.lane and c.cid not in busy]
        return [c for c in left if not self._is_parked(c) or has_input(c.sock.fileno())]

    def recover(self, connection: ClientConnection) -> None:
        self.board.park(connection.cid, self._clock())
        self.park(connection)

    def worker_died(self) -> None:
        # The entry of the hand-off socket wakes one worker and is then disarmed, until that worker has read a message
        # and arms it again. A worker that dies in between would leave it disarmed for ever.
        self._hand_off_entry.arm()

    def close(self) -> None:
        super().close()
        os.close(self._epoll.fd)

    def _take_one_back(self) -> Queued | None:
        cid = self._waiter.next(0)
        if cid is None:
            return super()._take_one_back()
        if cid != HAND_OFF:
            return Queued(cid, self._ready.pop(cid, 0.0) or self._clock())
        item = super()._take_one_back()
        self._hand_off_entry.arm()
        return item

    def _is_parked(self, connection: ClientConnection) -> bool:
        return not connection.lane and self.board.parked_since(connection.cid) > 0.0


def parking(kind: str, board: Scoreboard, clock: Clock = time.monotonic) -> Parking:
    """The implementation that the setting `ready_queue` asks for. `auto` is the shared epoll where there is one."""
    if kind == "epoll" or (kind == "auto" and AVAILABLE):
        return EpollParking(board, clock)
    return WatchedParking(board, clock)


def _cid_of(data: bytes) -> int:
    """The connection that this message of the hand-off socket is about."""
    msg = message_format.unpack(data)
    assert isinstance(msg, connection_messages.HandOff | connection_messages.Readable)
    return msg.cid


def _ready(connections: Sequence[ClientConnection]) -> list[ClientConnection]:
    """The connections with a request to read, by one system call. A closed connection has none."""
    seen = events_of(connections)
    return [c for c, events in seen if not events & ENDED or (not events & GONE and unread_bytes(c.sock.fileno()))]


def events_of(connections: Iterable[ClientConnection]) -> list[tuple[ClientConnection, int]]:
    """The events that poll(2) reports, of the connections for which it reports any."""
    poll = select.poll()
    by_fd = {connection.sock.fileno(): connection for connection in connections}
    for fd in by_fd:
        poll.register(fd, select.POLLIN | _SHUT)
    return [(by_fd[fd], events) for fd, events in poll.poll(0)]


def unread_bytes(fd: int) -> int:
    """How many bytes can be read; of a datagram socket, the length of the first datagram."""
    count: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return count


def _has_ended(sock: socket.socket) -> bool:
    """Whether the client has closed the connection and nothing is left to read."""
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
