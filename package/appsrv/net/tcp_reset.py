"""Ends a TCP connection with a reset, so that the client recognizes the response as incomplete. Knows only sockets."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys

_LINGER_ZERO_SECONDS = struct.pack("ii", 1, 0)
_NO_ADDRESS = struct.pack("=H14x", socket.AF_UNSPEC)


def reset_when_closed(sock: socket.socket) -> None:
    """Have the close of the last descriptor send RST instead of FIN (socket(7), SO_LINGER)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO_SECONDS)


def reset_now(sock: socket.socket) -> None:
    """Reset the connection at once, even if other processes have descriptors of it.

    On Linux by connect(2) with AF_UNSPEC, which dissolves the association; on other systems only as
    `reset_when_closed`.
    """
    reset_when_closed(sock)
    if sys.platform == "linux":
        ctypes.CDLL(None).connect(sock.fileno(), _NO_ADDRESS, len(_NO_ADDRESS))
