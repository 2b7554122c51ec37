"""End a TCP connection by a reset, so that nobody takes what was sent for the whole. Knows sockets, not holders."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys

_LINGER_ZERO_SECONDS = struct.pack("ii", 1, 0)
_NO_ADDRESS = struct.pack("=H14x", socket.AF_UNSPEC)


def reset_when_closed(sock: socket.socket) -> None:
    """Have the close of the last descriptor send a reset instead of an orderly end (socket(7), SO_LINGER)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO_SECONDS)


def reset_now(sock: socket.socket) -> None:
    """Reset at once, even where other processes hold the connection too: connect(2) to no address (Linux)."""
    reset_when_closed(sock)
    if sys.platform == "linux":
        ctypes.CDLL(None).connect(sock.fileno(), _NO_ADDRESS, len(_NO_ADDRESS))
