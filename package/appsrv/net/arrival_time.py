"""When bytes arrived, by the kernel's clock: what the time a request has waited for a worker is counted from.

Linux stamps what comes in over TCP when it is asked to (SO_TIMESTAMPNS, socket(7)); asked of a listening socket, it
does so for all its connections. Elsewhere, and on unix sockets, nothing is known. Knows bytes and stamps, not HTTP.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

from appsrv.system.unpatched import Socket, nonblocking

# asm-generic/socket.h; Python has no name for it.
_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_TIMESPEC = struct.Struct("@ll")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)
KNOWN = sys.platform == "linux"


def stamp_connections_of(listening: socket.socket) -> None:
    """Have the kernel note when bytes arrive on the connections that this socket will accept."""
    if KNOWN and listening.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


class StampedSocket(Socket):
    """A connection whose `recv` notes when the last of what it returns had arrived, in `arrived`.

    Seconds since the epoch; 0.0 when it is not known.
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
