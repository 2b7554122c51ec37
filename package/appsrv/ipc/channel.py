"""A channel: sends and receives messages and file descriptors over one end of a socket pair (unix(7)).

The sockets are of the type SOCK_SEQPACKET, or SOCK_DGRAM where the system lacks that: both keep the boundaries of
messages. Knows nothing of the content of the messages.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeVar

from appsrv.errors import ProtocolError
from appsrv.ipc import message_format
from appsrv.ipc.message_format import Message
from appsrv.system.unpatched import Socket, without_timeout

M = TypeVar("M", bound=Message)

MAX_FDS = 16
_FD_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
# Plain integers: `&` of two members of an enumeration takes a microsecond.
_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_FDS_LOST = int(socket.MSG_CTRUNC)
_SOCKET_TYPE = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)


class ChannelClosed(ProtocolError):
    """The process at the other end has closed its socket or ended."""


def pair(buffer: int = 1 << 20) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets. `buffer`: the bytes that can be sent in each direction before they are received."""
    ends = socket.socketpair(socket.AF_UNIX, _SOCKET_TYPE)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return ends


class DescriptorsLost(ProtocolError):
    """This process has too many open files to receive the descriptors of a message (EMFILE).

    The kernel has discarded the descriptors; `data` is the rest of the message (MSG_CTRUNC in recvmsg(2)).
    """

    def __init__(self, data: bytes) -> None:
        super().__init__("out of descriptors: those of a message are lost")
        self.data = data


class Receiver:
    """Receives datagrams from one socket into its own buffer. For one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray(message_format.MAX_DATAGRAM_BYTES)
        self._buffers = [self._buffer]

    def receive(self, flags: int = 0) -> tuple[bytes, list[int]]:
        """One datagram and its descriptors; (b"", []) at the end.

        Raises BlockingIOError if there is no datagram, DescriptorsLost, ProtocolError, and other OSErrors of
        recvmsg(2).
        """
        size, ancillary, seen, _ = self._sock.recvmsg_into(self._buffers, _FD_SPACE, flags)
        fds = _descriptors(ancillary) if ancillary else []
        if seen & _TRUNCATED:
            close_all(fds)
            if seen & _FDS_LOST:
                raise DescriptorsLost(bytes(self._buffer[:size]))
            longest = message_format.MAX_DATAGRAM_BYTES
            raise ProtocolError(f"a datagram did not fit into {longest} bytes and {MAX_FDS} descriptors")
        return bytes(self._buffer[:size]), fds


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one datagram with descriptors, which stay open here.

    Raises BlockingIOError if the receiver's queue is full, and other OSErrors of sendmsg(2).
    """
    if fds:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    else:
        sock.send(data)


def close_all(fds: Sequence[int]) -> None:
    """Close these descriptors."""
    for fd in fds:
        os.close(fd)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)
    return list(fds)


class Channel:
    """One end of a socket pair, for typed messages. It blocks if its socket does."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._receiver = Receiver(sock)

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """The channel whose end was inherited under this descriptor number."""
        os.set_inheritable(fd, False)
        return cls(without_timeout(Socket(socket.AF_UNIX, _SOCKET_TYPE, 0, fileno=fd)))

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self.sock.fileno()

    def send(self, msg: Message, fds: Sequence[int] = ()) -> None:
        """Send one message. Raises ChannelClosed if the other end is closed, BlockingIOError if its queue is full."""
        try:
            send(self.sock, msg.pack(), fds)
        except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError) as error:
            raise ChannelClosed("the other process has ended") from error

    def receive(self, flags: int = 0) -> tuple[Message, list[int]]:
        """The next message and its descriptors.

        Raises ChannelClosed at the end, BlockingIOError if there is no message, ProtocolError for a malformed one.
        """
        try:
            data, fds = self._receiver.receive(flags)
        except ConnectionResetError:
            # The other process ended and had not read all of our messages. The kernel reports that once (ECONNRESET),
            # before the messages that the process had sent, which the next call returns (unix(7)).
            data, fds = self._receiver.receive(flags)
        if not data:
            raise ChannelClosed("the other process has ended")
        try:
            return message_format.unpack(data), fds
        except ProtocolError:
            close_all(fds)
            raise

    def receive_one(self, kind: type[M]) -> tuple[M, list[int]]:
        """The next message, which has to be of this kind, and its descriptors; ProtocolError when it is another one."""
        msg, fds = self.receive()
        if not isinstance(msg, kind):
            raise ProtocolError(f"a {kind.__name__} was to come, not a {type(msg).__name__}")
        return msg, fds

    def waiting(self) -> Iterator[tuple[Message, list[int]]]:
        """The messages that have arrived on a non-blocking channel.

        Ends early if the handler of a message closes this end. Raises ChannelClosed and ProtocolError as `receive`.
        """
        while self.fileno() >= 0:
            try:
                yield self.receive()
            except BlockingIOError:
                return

    def close(self) -> None:
        """Close this end. The process at the other end gets ChannelClosed."""
        self.sock.close()


class Outbox:
    """Sends messages without ever blocking: a message for which the socket has no room is kept, in order."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._waiting: deque[tuple[Message, list[int]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def send(self, msg: Message, fds: Sequence[int] = ()) -> None:
        """Send the message, or keep it with duplicates of its descriptors. If the other end is closed, drop it."""
        if not self._waiting and self._try(msg, fds):
            return
        self._waiting.append((msg, [os.dup(fd) for fd in fds]))

    def flush(self) -> None:
        """Send the kept messages for which the socket has room now."""
        while self._waiting and self._try(*self._waiting[0]):
            close_all(self._waiting.popleft()[1])

    def discard(self) -> None:
        """Drop the kept messages and close their descriptors: the other end is closed."""
        while self._waiting:
            close_all(self._waiting.popleft()[1])

    def _try(self, msg: Message, fds: Sequence[int]) -> bool:
        try:
            self.channel.send(msg, fds)
        except BlockingIOError:
            return False
        except (ChannelClosed, OSError):
            return True
        return True
