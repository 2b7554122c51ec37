"""A channel: messages and file descriptors over one end of a SOCK_SEQPACKET pair (else SOCK_DGRAM).

Knows how to carry messages, not what they mean.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence

from appsrv.errors import ProtocolError
from appsrv.ipc import message_format
from appsrv.ipc.message_format import Message
from appsrv.system.unpatched import Socket, patient

MAX_FDS = 16
_FD_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
# Plain numbers: an enumeration's `&` costs a microsecond.
_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_FDS_LOST = int(socket.MSG_CTRUNC)
_SOCKET_TYPE = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)


class ChannelClosed(ProtocolError):
    """The other side is gone."""


def pair(buffer: int = 1 << 20) -> tuple[socket.socket, socket.socket]:
    """Two connected ends that keep the borders of datagrams; `buffer` bytes may wait in each direction."""
    ends = socket.socketpair(socket.AF_UNIX, _SOCKET_TYPE)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return ends


class DescriptorsLost(ProtocolError):
    """This process has no room for the descriptors of a message (EMFILE): they are gone, `data` is what came."""

    def __init__(self, data: bytes) -> None:
        super().__init__("out of descriptors: those of a message are lost")
        self.data = data


class Receiver:
    """Reads datagrams from one socket into a buffer of its own: for one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray(message_format.MAX_DATAGRAM)
        self._buffers = [self._buffer]

    def receive(self, flags: int = 0) -> tuple[bytes, list[int]]:
        """One datagram and its descriptors; (b"", []) at the end. BlockingIOError when none waits."""
        size, ancillary, seen, _ = self._sock.recvmsg_into(self._buffers, _FD_SPACE, flags)
        fds = _descriptors(ancillary) if ancillary else []
        if seen & _TRUNCATED:
            close_all(fds)
            if seen & _FDS_LOST:
                raise DescriptorsLost(bytes(self._buffer[:size]))
            longest = message_format.MAX_DATAGRAM
            raise ProtocolError(f"a datagram did not fit into {longest} bytes and {MAX_FDS} descriptors")
        return bytes(self._buffer[:size]), fds


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """One datagram with descriptors, which stay open here. BlockingIOError when the other side's queue is full."""
    if fds:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    else:
        sock.send(data)


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
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
    """One end, with typed messages. Blocking or not as its socket is."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._receiver = Receiver(sock)

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """The channel whose end another process left open here under this number."""
        os.set_inheritable(fd, False)
        return cls(patient(Socket(socket.AF_UNIX, _SOCKET_TYPE, 0, fileno=fd)))

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self.sock.fileno()

    def send(self, msg: Message, fds: Sequence[int] = ()) -> None:
        """Send one message; ChannelClosed when nobody reads any more."""
        try:
            send(self.sock, msg.pack(), fds)
        except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError) as error:
            raise ChannelClosed("the other process has gone") from error

    def receive(self, flags: int = 0) -> tuple[Message, list[int]]:
        """The next message and its descriptors; ChannelClosed at the end, BlockingIOError when none waits."""
        try:
            data, fds = self._receiver.receive(flags)
        except ConnectionResetError:
            # Said once, before what the other side has sent: it ended with something of ours unread (unix(7)).
            data, fds = self._receiver.receive(flags)
        if not data:
            raise ChannelClosed("the other process has gone")
        return message_format.unpack(data), fds

    def waiting(self) -> Iterator[tuple[Message, list[int]]]:
        """What has arrived on a non-blocking channel; ends early when a message had this end closed."""
        while self.fileno() >= 0:
            try:
                yield self.receive()
            except BlockingIOError:
                return

    def close(self) -> None:
        """Close this end; the other one sees the end."""
        self.sock.close()


class Outbox:
    """Messages to a process that must never be waited for: what does not fit waits here, in order."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._waiting: deque[tuple[Message, list[int]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def send(self, msg: Message, fds: Sequence[int] = ()) -> None:
        """Send now or keep; the descriptors are duplicated when they have to wait. Silent when nobody reads."""
        if not self._waiting and self._try(msg, fds):
            return
        self._waiting.append((msg, [os.dup(fd) for fd in fds]))

    def flush(self) -> None:
        """Send what fits now."""
        while self._waiting and self._try(*self._waiting[0]):
            close_all(self._waiting.popleft()[1])

    def discard(self) -> None:
        """Forget what waits: the other side is gone."""
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
