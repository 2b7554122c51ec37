"""The ready queue as the front end sees it: connections on their way to workers, and where idle ones are parked.

The counterpart of `ready_queue`, in the same two implementations. Knows connections and counts, not what is said on
them, nor who the workers are.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gevent import get_hub

from appsrv import channel as channels
from appsrv import message
from appsrv.idle_watch import IdleWatch
from appsrv.ready_queue import HAND_OFF, hand_off_pair
from appsrv.scoreboard import Scoreboard
from appsrv.shared_epoll import AVAILABLE, Registration, SharedEpoll

READABLE, WRITABLE = 1, 2
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
SETTLED = 0.1
RELEASED_AT_ONCE = 4096

_READABLE = message.Readable.LAYOUT.pack


class ClientConnection:
    """A client's connection, for its whole life. `lane` is set while a greenlet of the server works on it."""

    __slots__ = ("address", "cid", "holders", "lane", "listener", "port", "sock", "watch")

    def __init__(self, cid: int, sock: socket.socket, address: str, port: int, listener: int) -> None:
        self.cid = cid
        self.sock = sock
        self.address = address
        self.port = port
        self.listener = listener
        self.lane = False
        self.holders: set[int] | None = None
        self.watch: Any = None


class Parking:
    """What both implementations share: the hand-off socket and its count.

    The front end sets `connections`, all that there are, and `workers`, how many of them may take connections.
    """

    kind = ""

    def __init__(self, board: Scoreboard) -> None:
        self.board = board
        self.ours, self.theirs = hand_off_pair()
        self.connections: Mapping[int, ClientConnection] = {}
        self.workers = 0
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._writable: Any = get_hub().loop.io(self.ours.fileno(), WRITABLE)
        self._pushed = 0
        self._settled = (0, 0)
        self._settled_at = 0.0

    def fds_for_workers(self) -> list[int]:
        """What `message.Attach` carries."""
        return [self.theirs.fileno(), self.board.fd]

    def push(self, connection: ClientConnection, body: int = 0, data: bytes = b"", file: int | None = None) -> None:
        """Hand the connection to whichever worker is free first."""
        peer = connection.address.encode()
        msg = message.HandOff(
            connection.cid, connection.port, connection.listener, body, len(peer), peer + data
        )
        fds = [connection.sock.fileno()] if file is None else [connection.sock.fileno(), file]
        self._push(connection.cid, msg.pack(), fds)

    def _push(self, cid: int, data: bytes, fds: Sequence[int] = ()) -> None:
        self.board.park(cid, 0.0)
        self._pushed += 1
        if self._waiting or not self._try(data, fds):
            self._keep(data, fds)

    def waiting(self, taken: int) -> int:
        """Requests that no worker has taken yet; `taken` is the sum of all workers' hand-off counters."""
        raise NotImplementedError

    def park(self, connection: ClientConnection) -> None:
        """Nothing is to be read from the connection now; it is pushed when there is."""
        raise NotImplementedError

    def forget(self, connection: ClientConnection) -> None:
        """The connection is about to be closed."""

    def steal(self, most: int) -> Iterator[tuple[int, bytes]]:
        """Take at most so many requests back from the workers: (connection id, what has been read)."""
        for _ in range(most):
            stolen = self._steal_one()
            if stolen is None:
                return
            yield stolen

    def lost(self, connections: Mapping[int, ClientConnection], busy: set[int]) -> list[ClientConnection]:
        """Connections that a dead worker took without leaving word: nobody serves or watches them."""
        raise NotImplementedError

    def recover(self, connection: ClientConnection) -> None:
        """Let a lost connection be taken again."""
        raise NotImplementedError

    def worker_died(self) -> None:
        """A worker may have died with the door to the hand-off socket in its hand."""

    def close(self) -> None:
        """No connection is handed over any more; workers see the end of the hand-off socket."""
        self._writable.stop()
        self.ours.close()
        self.theirs.close()

    def _unread(self) -> bool:
        answer = fcntl.ioctl(self.theirs.fileno(), termios.FIONREAD, b"\0\0\0\0")
        return bool(struct.unpack("i", answer)[0])

    def _in_hand_off(self, taken: int) -> int:
        if not self._unread():
            self._settle(taken)
            return len(self._waiting)
        return max(1, self._pushed - taken)

    def _settle(self, taken: int) -> None:
        """The socket is empty: what a worker took when it was killed is counted nowhere, so start again from here.

        A worker counts a moment after it has taken: only numbers that have stood still are believed.
        """
        now = time.monotonic()
        if (self._pushed, taken) != self._settled:
            self._settled, self._settled_at = (self._pushed, taken), now
        elif now - self._settled_at > SETTLED:
            self._pushed = taken + len(self._waiting)

    def _steal_one(self) -> tuple[int, bytes] | None:
        try:
            data, _, _, _ = self.theirs.recvmsg(channels.MAX_DATAGRAM, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._steal_unsent()
        self._pushed -= 1
        return _cid_of(data), b""

    def _steal_unsent(self) -> tuple[int, bytes] | None:
        if not self._waiting:
            return None
        data, fds = self._waiting.popleft()
        channels.close_all(fds)
        self._pushed -= 1
        return _cid_of(data), b""

    def _try(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            channels.send(self.ours, data, fds)
        except BlockingIOError:
            return False
        return True

    def _keep(self, data: bytes, fds: Sequence[int]) -> None:
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
    """Portable: the server watches every idle connection, and workers say by the release pipe which ones are idle.

    Of a connection that every worker holds only the id is handed over. `watch` of a connection: whether it is watched
    now; None when it never was.
    """

    kind = "portable"

    def __init__(self, board: Scoreboard) -> None:
        super().__init__(board)
        self.gone: Callable[[ClientConnection], None] = self.push
        self._released, self._releasing = os.pipe()
        self._watched: dict[int, ClientConnection] = {}
        self._watch = IdleWatch()
        self._watch.always(self._released)
        self._turn: Any = get_hub().loop.io(self._watch.fileno(), READABLE)
        self._turn.start(self._look)

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
            self._watch.again(fd)
        connection.watch = True

    def _look(self) -> None:
        for fd, ended in self._watch.ready():
            connection = self._watched.get(fd)
            if connection is not None:
                self._readable(connection, ended)
            elif fd == self._released:
                self._park_released()

    def _park_released(self) -> None:
        for (cid,) in message.RELEASED.iter_unpack(os.read(self._released, RELEASED_AT_ONCE)):
            connection = self.connections.get(cid)
            if connection is not None:
                self.park(connection)

    def _readable(self, connection: ClientConnection, ended: int) -> None:
        connection.watch = False
        if ended and _has_ended(connection.sock):
            self.gone(connection)
        elif connection.holders is not None and len(connection.holders) == self.workers:
            self._push(connection.cid, _READABLE(message.Readable.TAG, connection.cid))
        else:
            self.push(connection)

    def forget(self, connection: ClientConnection) -> None:
        if connection.watch is not None:
            fd = connection.sock.fileno()
            self._watch.drop(fd)
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
    """Linux: idle connections are in the epoll instance that the workers wait in."""

    kind = "epoll"

    def __init__(self, board: Scoreboard) -> None:
        super().__init__(board)
        self._epoll = SharedEpoll.create()
        self._waiter = self._epoll.waiter()
        self._door = self._epoll.register(self.theirs.fileno(), HAND_OFF)

    def fds_for_workers(self) -> list[int]:
        return [*super().fds_for_workers(), self._epoll.fd]

    def waiting(self, taken: int) -> int:
        if not readable(self._epoll.fd):
            return self._in_hand_off(taken)
        parked = [c for c in self.connections.values() if self._is_parked(c)]
        return self._in_hand_off(taken) + len(_ready(parked))

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
        # As long as an entry fires, what is readable may be waiting its turn.
        if self._waiting or self._unread() or readable(self._epoll.fd):
            return []
        left = [c for c in connections.values() if not c.lane and c.cid not in busy]
        return [c for c in left if not self._is_parked(c) or readable(c.sock.fileno())]

    def recover(self, connection: ClientConnection) -> None:
        self.board.park(connection.cid, time.monotonic())
        self.park(connection)

    def worker_died(self) -> None:
        self._door.arm()

    def close(self) -> None:
        super().close()
        os.close(self._epoll.fd)

    def _steal_one(self) -> tuple[int, bytes] | None:
        cid = self._waiter.next(0)
        if cid is None:
            return super()._steal_one()
        if cid != HAND_OFF:
            return cid, b""
        stolen = super()._steal_one()
        self._door.arm()
        return stolen

    def _is_parked(self, connection: ClientConnection) -> bool:
        return not connection.lane and self.board.parked_since(connection.cid) > 0.0


def parking(kind: str, board: Scoreboard) -> Parking:
    """The ready queue that the setting asks for: `auto` is the shared epoll where there is one."""
    if kind == "epoll" or (kind == "auto" and AVAILABLE):
        return EpollParking(board)
    return WatchedParking(board)


def _cid_of(data: bytes) -> int:
    """Whose turn this message of the hand-off socket is."""
    msg = message.unpack(data)
    assert isinstance(msg, message.HandOff | message.Readable)
    return msg.cid


def _ready(connections: Sequence[ClientConnection]) -> list[ClientConnection]:
    """Those that have something to read, by one system call; whose client has gone are not among them."""
    poll = select.poll()
    by_fd = {connection.sock.fileno(): connection for connection in connections}
    for fd in by_fd:
        poll.register(fd, select.POLLIN | select.POLLRDHUP)
    return [by_fd[fd] for fd, events in poll.poll(0) if not events & _GONE]


def _has_ended(sock: socket.socket) -> bool:
    """Whether the client has closed the connection and left nothing to read."""
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def readable(fd: int) -> bool:
    """Whether there is something to read, or the end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
