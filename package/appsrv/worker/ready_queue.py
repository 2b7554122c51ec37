"""The workers' side of the ready queue: take a connection with something to read, park it, give it away.

Two implementations of one interface. *Portable*: every request comes over the hand-off socket, and the front end
watches a connection between two requests. *Epoll* (Linux): idle connections are parked in one epoll instance that all
workers and the front end share, so that a keep-alive request costs no message. With both, a worker keeps its descriptor
of a parked connection. This module knows connections, not HTTP.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from appsrv.errors import Limit
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages
from appsrv.ipc.channel import Channel, ChannelClosed, Receiver
from appsrv.ipc.hand_off import HAND_OFF, WAIT_MS
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard, Slot
from appsrv.net.shared_epoll import Registration, SharedEpoll
from appsrv.net.tcp_reset import reset_when_closed
from appsrv.system.spool import Spool
from appsrv.system.unpatched import Socket, nonblocking

DEVELOPMENT_WAIT_MS = 100
"""The longest wait in a development server, instead of WAIT_MS: each save waits for the end of a worker."""
MOST_INLINE_BYTES = 60 * 1024
CLOSED_PER_MESSAGE = 16

_readable = struct.Struct("<xQ").unpack
_released = connection_messages.RELEASED.pack


class Spooled(NamedTuple):
    """A complete request that the slow lane has read.

    `data` is the head, then `body` bytes of body unless these are in `file`, then what the client has sent after it.
    """

    data: bytes
    body: int
    file: int | None


@dataclass
class Connection:
    """A client's connection that a worker serves or keeps."""

    __slots__ = ("address", "cid", "listener", "port", "registration", "sock", "spooled")

    cid: int
    sock: socket.socket
    address: str
    port: str
    listener: int
    spooled: Spooled | None
    registration: Registration | None


class Orphaned(Exception):
    """The server has gone: no connection is handed over any more."""


class ReadyQueue:
    """The part that both implementations share: how a connection comes to this worker and leaves it."""

    def __init__(self, hand_off: socket.socket, channel: Channel, board: Scoreboard, slot: Slot) -> None:
        self.client_socket: Callable[[int], socket.socket] = client_socket
        self._hand_off = hand_off
        self._receiver = Receiver(hand_off)
        self._channel = channel
        self._board = board
        self._slot = slot
        self._closed: deque[int] = deque()
        self._held: dict[int | None, Connection] = {}

    def fileno(self) -> int:
        """A descriptor that is readable when something waits."""
        raise NotImplementedError

    def take(self) -> Connection | None:
        """The next connection with something to read; None after WAIT_MS, or when a signal came."""
        raise NotImplementedError

    def wait_at_most(self, milliseconds: int) -> None:
        """Have `take` return after this time at the latest."""
        raise NotImplementedError

    def park(self, connection: Connection, now: float) -> None:
        """Let the connection wait for its next request, which any worker may take."""
        raise NotImplementedError

    def read_messages(self) -> None:
        """Read the messages of the server; Orphaned when it has gone."""
        while True:
            try:
                msg, fds = self._channel.receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ChannelClosed as error:
                raise Orphaned from error
            channels.close_all(fds)
            self._handle_message(msg)

    def close(self, connection: Connection, *, linger: bool = False, reset: bool = False) -> None:
        """End the connection.

        `linger`: the client may still be sending a request that will not be read. `reset`: the response is incomplete,
        and the client is to see a reset instead of an orderly end.
        """
        if linger or reset:
            # Before the message is sent, for the reason given in `_release`.
            self._board.park(connection.cid, 0.0)
        self._forget(connection)
        with contextlib.suppress(OSError):
            if reset:
                reset_when_closed(connection.sock)
            elif not linger:
                connection.sock.shutdown(socket.SHUT_WR)
        connection.sock.close()
        if linger or reset:
            self._send(connection_messages.Closed(connection.cid, int(linger), int(reset)))
            return
        # The client has seen the end already. The server need not know at once, and is told of several at a time.
        self._closed.append(connection.cid)
        if len(self._closed) >= CLOSED_PER_MESSAGE:
            self.flush()

    def flush(self) -> None:
        """Send the messages that were kept back."""
        cids = []
        with contextlib.suppress(IndexError):
            while True:
                cids.append(self._closed.popleft())
        if cids:
            self._send(connection_messages.ClosedAll(len(cids), struct.pack(f"<{len(cids)}Q", *cids)))

    def pass_on(self, connection: Connection) -> None:
        """Pass a connection to another worker that was just taken and not read from."""
        if connection.spooled is None:
            self.park(connection, time.monotonic())

    def give_back(self, connection: Connection, data: bytes) -> None:
        """Give an incomplete request to the front end, whose slow lane reads the rest."""
        self._release(connection)
        if len(data) <= MOST_INLINE_BYTES:
            self._send(connection_messages.GivenBack(connection.cid, data))
            return
        fd = _as_file(data)
        try:
            self._send(connection_messages.GivenBack(connection.cid, b""), [fd])
        finally:
            os.close(fd)

    def limit_reached(self, connection: Connection, limit: Limit, what: str) -> None:
        """Have the server log that this limit ended a request. To be called before the connection is given away."""
        self._send(connection_messages.LimitReached(connection.cid, limit.setting, limit.value, what))

    def undelivered(
        self, connection: Connection, first: bytes, files: Sequence[tuple[int, int, int]], *, keep_alive: bool
    ) -> None:
        """Give the rest of a response to the drain lane: `first`, then (descriptor, offset, length) of each file."""
        self._release(connection)
        places = b"".join(struct.pack("<QQ", offset, length) for _, offset, length in files)
        rest = connection_messages.Undelivered(connection.cid, int(keep_alive), len(files), places + first)
        self._send(rest, [fd for fd, _, _ in files])

    def close_in_child(self) -> None:
        """In a child of this process: close the connections, which the parent goes on with."""
        for connection in self._held.values():
            connection.sock.close()
        self._held.clear()

    def _release(self, connection: Connection) -> None:
        # The scoreboard may still say that the connection has been parked since before this request. Until the server
        # has read the message, it would take the connection for idle and could close it.
        self._board.park(connection.cid, 0.0)
        self._forget(connection)
        connection.sock.close()

    def _hold(self, connection: Connection) -> None:
        """Keep the descriptor of a connection that is parked for the first time."""
        self._held[connection.cid] = connection
        self._send(connection_messages.Holding(connection.cid))

    def _forget(self, connection: Connection) -> None:
        """Drop what is kept of the connection."""
        self._held.pop(connection.cid, None)

    def _handle_message(self, msg: Message) -> None:
        """Handle a message on the worker's channel to the server."""
        # A branch and not a Dispatcher, which takes three times as long for the one message that is handled here. The
        # other message of this direction is DescriptorSent: `_request_descriptor` waits for it.
        if isinstance(msg, connection_messages.Gone):
            held = self._held.pop(msg.cid, None)
            if held is not None:
                held.sock.close()

    def _request_descriptor(self, cid: int) -> Connection | None:
        """Have the front end send the descriptor of a connection that this worker does not hold; None when it has
        ended.
        """
        self._send(connection_messages.DescriptorRequested(cid))
        while True:
            try:
                answer, fds = self._channel.receive()
            except ChannelClosed as error:
                raise Orphaned from error
            self._handle_message(answer)
            if isinstance(answer, connection_messages.DescriptorSent):
                return _from_descriptor(answer, fds, self.client_socket)
            if isinstance(answer, connection_messages.Gone) and answer.cid == cid:
                return None

    def _send(self, msg: Message, fds: Sequence[int] = ()) -> None:
        try:
            self._channel.send(msg, fds)
        except ChannelClosed as error:
            raise Orphaned from error

    def _receive_hand_off(self, flags: int = 0) -> Connection | None:
        try:
            data, fds = self._receiver.receive(flags)
        except BlockingIOError:
            return None
        if not data:
            raise Orphaned
        self._slot.count_taken()
        return self._from_hand_off(connection_messages.HandOff.unpack(data), fds)

    def _from_hand_off(self, msg: connection_messages.HandOff, fds: list[int]) -> Connection:
        connection = self._held.get(msg.cid)
        if connection is None:
            address = msg.data[: msg.peer].decode()
            port = str(msg.port or "")
            connection = Connection(msg.cid, self.client_socket(fds[0]), address, port, msg.listener, None, None)
        else:
            os.close(fds[0])
        if len(msg.data) > msg.peer:
            connection.spooled = Spooled(msg.data[msg.peer :], msg.body, fds[1] if len(fds) > 1 else None)
        return connection


class PortableQueue(ReadyQueue):
    """Blocks on the hand-off socket. The kernel gives each message to exactly one worker, the longest waiting one.

    `released`: the release pipe, to which all workers write.
    """

    def __init__(
        self, hand_off: socket.socket, channel: Channel, board: Scoreboard, slot: Slot, released: int
    ) -> None:
        super().__init__(hand_off, channel, board, slot)
        self._released = released
        self._most = most_held()

    def fileno(self) -> int:
        return self._hand_off.fileno()

    def take(self) -> Connection | None:
        if self._closed:
            connection = self._take_next(socket.MSG_DONTWAIT)
            if connection is not None:
                return connection
            self.flush()
        # The timeout is a property of the socket (`hand_off_pair`), not of the call.
        return self._take_next()

    def park(self, connection: Connection, now: float) -> None:
        cid = connection.cid
        self._board.park(cid, now)
        if cid not in self._held:
            self._hold_or_close(connection)
        try:
            os.write(self._released, _released(cid))
        except BrokenPipeError as error:
            raise Orphaned from error

    def _hold_or_close(self, connection: Connection) -> None:
        if len(self._held) < self._most:
            self._hold(connection)
        else:
            connection.sock.close()

    def wait_at_most(self, milliseconds: int) -> None:
        timeout = struct.pack("@ll", 0, milliseconds * 1000)
        self._hand_off.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def _take_next(self, flags: int = 0) -> Connection | None:
        try:
            data, fds = self._receiver.receive(flags)
        except BlockingIOError:
            return None
        if not data:
            raise Orphaned
        self._slot.count_taken()
        if data[0] != connection_messages.Readable.TAG:
            return self._from_hand_off(connection_messages.HandOff.unpack(data), fds)
        (cid,) = _readable(data)
        return self._held.get(cid) or self._request_descriptor(cid)


class NonblockingPortableQueue(PortableQueue):
    """For an event loop that watches the queue's descriptor: `take` does not wait."""

    def _take_next(self, flags: int = 0) -> Connection | None:
        return super()._take_next(socket.MSG_DONTWAIT)


class EpollQueue(ReadyQueue):
    """Waits in the epoll instance that all workers share, and keeps the descriptors of connections it has parked."""

    def __init__(
        self, hand_off: socket.socket, channel: Channel, board: Scoreboard, slot: Slot, epoll: SharedEpoll
    ) -> None:
        super().__init__(hand_off, channel, board, slot)
        self._epoll = epoll
        self._most = most_held()
        self._next = epoll.waiter().next
        self._more_in_hand_off = False
        self._hand_off_is_due = False
        self._hand_off_entry = epoll.register(hand_off.fileno(), HAND_OFF)
        self._hand_off_entry.arm()

    def fileno(self) -> int:
        return self._epoll.fd

    def take(self) -> Connection | None:
        if self._hand_off_is_due or self._closed:
            return self._take_in_turn()
        self._hand_off_is_due = self._more_in_hand_off
        cid = self._next(WAIT_MS)
        connection = self._held.get(cid)
        return connection if connection is not None or cid is None else self._take_unknown(cid)

    def wait_at_most(self, milliseconds: int) -> None:
        next_entry = self._next
        self._next = lambda timeout_ms: next_entry(min(timeout_ms, milliseconds))

    def _take_in_turn(self) -> Connection | None:
        # The hand-off socket has one entry in the epoll instance, however many messages are in it. While it has more,
        # every other request is taken from there, so that many new connections do not wait behind those that have been
        # parked.
        if self._hand_off_is_due:
            connection = self._receive_hand_off(socket.MSG_DONTWAIT)
            self._hand_off_is_due = False
            if connection is not None:
                return connection
            self._more_in_hand_off = False
        self._hand_off_is_due = self._more_in_hand_off
        cid = self._next(0) if self._closed else self._next(WAIT_MS)
        if cid is None and self._closed:
            self.flush()
            cid = self._next(WAIT_MS)
        return None if cid is None else self._held.get(cid) or self._take_unknown(cid)

    def _take_unknown(self, cid: int) -> Connection | None:
        return self._request_descriptor(cid) if cid != HAND_OFF else self._take_hand_off()

    def park(self, connection: Connection, now: float) -> None:
        self._board.park(connection.cid, now)
        registration = connection.registration
        if registration is None:
            if len(self._held) >= self._most:
                # An entry needs a descriptor, and the rest of the descriptors is the application's. The front end parks
                # the connection.
                self.undelivered(connection, b"", (), keep_alive=True)
                return
            registration = self._register(connection)
        registration.arm()

    def _register(self, connection: Connection) -> Registration:
        registration = self._epoll.register(connection.sock.fileno(), connection.cid)
        connection.registration = registration
        self._hold(connection)
        return registration

    def _take_hand_off(self) -> Connection | None:
        if self._slot.retiring:
            self._hand_off_entry.arm()
            return None
        try:
            connection = self._receive_hand_off(socket.MSG_DONTWAIT)
        finally:
            # Also at the end of the server, so that each worker sees it, and not only the first one.
            self._hand_off_entry.arm()
        self._more_in_hand_off = self._hand_off_is_due = connection is not None
        return connection

    def _forget(self, connection: Connection) -> None:
        if self._held.pop(connection.cid, None) is not None:
            assert connection.registration is not None
            connection.registration.forget()
            connection.registration = None


def most_held() -> int:
    """How many connections a worker may keep: half as many as it may have descriptors. The other half is the
    application's.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft // 2


class NonblockingEpollQueue(EpollQueue):
    """For an event loop that watches the queue's descriptor: `take` does not wait."""

    def __init__(
        self, hand_off: socket.socket, channel: Channel, board: Scoreboard, slot: Slot, epoll: SharedEpoll
    ) -> None:
        super().__init__(hand_off, channel, board, slot, epoll)
        waiter = epoll.waiter()
        self._next = lambda timeout_ms: waiter.next(min(timeout_ms, 0))


def _from_descriptor(
    msg: connection_messages.DescriptorSent, fds: list[int], make_socket: Callable[[int], socket.socket]
) -> Connection:
    address = msg.data[: msg.peer].decode()
    return Connection(msg.cid, make_socket(fds[0]), address, str(msg.port or ""), msg.listener, None, None)


def client_socket(fd: int) -> socket.socket:
    # Naming family, type and protocol saves three system calls. What they are does not matter to `recv` and `send`.
    return nonblocking(Socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd))


def _as_file(data: bytes) -> int:
    # The data stays in memory, where the system has files in memory (memfd_create).
    spool = Spool(len(data))
    spool.write(data)
    fd, _, _ = spool.into_file()
    copy = os.dup(fd)
    spool.close()
    return copy
