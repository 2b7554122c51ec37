"""The time at which bytes arrived, by the kernel's clock. The time that a request waits for a worker starts there.

Linux adds a time stamp to received data with the option SO_TIMESTAMPNS (socket(7)); the connections of a listening
socket inherit the option. On other systems, and on unix sockets, the time is not known. Knows bytes and time stamps,
not HTTP.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

from appsrv.system.unpatched import Socket, nonblocking

# The number in asm-generic/socket.h. Python has no name for it.
_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_TIMESPEC = struct.Struct("@ll")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)
KNOWN = sys.platform == "linux"


def stamp_connections_of(listening: socket.socket) -> None:
    """Enable time stamps for the connections that this listening socket will accept. Errors are ignored."""
    if KNOWN and listening.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


class StampedSocket(Socket):
    """A connection. Each `recv` sets `arrived` to the time at which the last of its bytes arrived.

    The time is in seconds since the epoch; 0.0 if it is not known.
    """

    __slots__ = ("arrived",)

    def __init__(self, fd: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
        nonblocking(self)
        self.arrived = 0.0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data, stamps, _, _ = self.recvmsg(size, _ROOM, flags)
        self.arrived = _seconds(stamps[0][2]) if stamps else 0.0
        return data


def _seconds(stamp: bytes) -> float:
    if len(stamp) != _TIMESPEC.size:
        return 0.0
    whole, nanoseconds = _TIMESPEC.unpack(stamp)
    return float(whole + nanoseconds / 1e9)
