"""The sockets that a process has open, and what they are connected to, as the kernel knows them.

Knows no protocol and no library. Reads /proc; where there is none it finds nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

TCP_LISTEN = "0A"
"""The state in /proc/net/tcp (include/net/tcp_states.h)."""

SO_ACCEPTCON = 0x10000
"""The flag in /proc/net/unix (proc(5))."""

_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True)
class OpenSocket:
    """One socket of this process: a stream or not, and the names of both ends; "" where there is none."""

    fd: int
    stream: bool
    local: str
    peer: str


def own_sockets() -> list[OpenSocket]:
    """Those of this process, by their descriptors."""
    return [found for fd in _descriptors("self") if (found := _described(fd)) is not None]


def listening(pid: int) -> list[str]:
    """The addresses on which a process listens; none where this process may not look."""
    if pid <= 0:
        return []
    inodes = _inodes(pid)
    if not inodes:
        return []
    lines = (*_lines(pid, "tcp"), *_lines(pid, "tcp6"))
    internet = [address_of(words[1]) for words in lines if words[3] == TCP_LISTEN and words[9] in inodes]
    names = [
        words[7] for words in _lines(pid, "unix")
        if len(words) > 7 and words[6] in inodes and int(words[3], 16) & SO_ACCEPTCON
    ]
    return sorted({*internet, *names})


def address_of(text: str) -> str:
    """An address and port as in /proc/net/tcp: words of the machine's byte order, in hexadecimal."""
    digits, _, port = text.partition(":")
    packed = b"".join(int(digits[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(digits), 8))
    return _joined(str(ip_address(packed)), int(port, 16))


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _inodes(pid: int) -> set[str]:
    inodes = set()
    for fd in _descriptors(str(pid)):
        with contextlib.suppress(OSError):
            match = _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{fd}"))
            if match is not None:
                inodes.add(match[1])
    return inodes


def _descriptors(process: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{process}/fd")]
    except OSError:
        return []


def _lines(pid: int, table: str) -> Iterator[list[str]]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}", encoding="utf-8", errors="replace") as file:
        next(file, None)
        for line in file:
            yield line.split()


def _described(fd: int) -> OpenSocket | None:
    try:
        if _SOCKET.fullmatch(os.readlink(f"/proc/self/fd/{fd}")) is None:
            return None
        # A duplicate: the object closes its descriptor when it ends.
        with socket.socket(fileno=os.dup(fd)) as one:
            return OpenSocket(fd, one.type == socket.SOCK_STREAM, _name(one.getsockname), _name(one.getpeername))
    except OSError:
        return None


def _name(ask: Callable[[], Any]) -> str:
    """What one end of a socket is called: host and port, or the path of a unix socket."""
    try:
        name = ask()
    except OSError:
        return ""
    if isinstance(name, tuple):
        return _joined(str(name[0]), name[1]) if len(name) > 1 and isinstance(name[1], int) else ""
    return os.fsdecode(name).replace("\0", "@")
