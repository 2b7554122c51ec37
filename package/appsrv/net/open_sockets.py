"""The open sockets of a process and their peers, read from the kernel.

Knows no protocol and no library. Reads /proc; without it, the result is empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

TCP_LISTEN = "0A"
"""The state in /proc/net/tcp (include/net/tcp_states.h)."""

SO_ACCEPTCON = 0x10000
"""The flag in /proc/net/unix (proc(5))."""

SOCKADDR_BYTES = 128
"""sizeof(struct sockaddr_storage)."""

_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True)
class OpenSocket:
    """One socket of this process. `peer` is the address of the other end, "" if it has none."""

    fd: int
    stream: bool
    listens: bool
    peer: str


def own_sockets() -> list[OpenSocket]:
    """The sockets of this process, in the order of their descriptors (Linux)."""
    return [found for fd in descriptors("self") if (found := _described(fd)) is not None]


def listening(pid: int) -> list[str]:
    """The addresses on which a process listens; empty if this process may not read them."""
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
    """An address and port of /proc/net/tcp, which has hexadecimal words in the byte order of the machine."""
    digits, _, port = text.partition(":")
    packed = b"".join(int(digits[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(digits), 8))
    return _joined(str(ip_address(packed)), int(port, 16))


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _inodes(pid: int) -> set[str]:
    inodes = set()
    for fd in descriptors(str(pid)):
        with contextlib.suppress(OSError):
            match = _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{fd}"))
            if match is not None:
                inodes.add(match[1])
    return inodes


def descriptors(process: str) -> list[int]:
    """The numbers of the descriptors that a process has open."""
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
    # Without a socket object: creating one may set O_NONBLOCK, for every process that shares the open file description.
    kind, listens = _option(fd, socket.SO_TYPE), _option(fd, socket.SO_ACCEPTCONN)
    if kind is None:
        return None
    return OpenSocket(fd, kind == socket.SOCK_STREAM, bool(listens), _peer(fd))


def _option(fd: int, option: int) -> int | None:
    value, size = ctypes.c_int(), ctypes.c_uint(ctypes.sizeof(ctypes.c_int))
    failed = _libc().getsockopt(fd, socket.SOL_SOCKET, option, ctypes.byref(value), ctypes.byref(size))
    return None if failed else value.value


def _peer(fd: int) -> str:
    """The address of the other end: host and port, or the path of a unix socket; "" if it has none."""
    name, size = ctypes.create_string_buffer(SOCKADDR_BYTES), ctypes.c_uint(SOCKADDR_BYTES)
    if _libc().getpeername(fd, name, ctypes.byref(size)):
        return ""
    return name_of(name.raw[: size.value])


def name_of(address: bytes) -> str:
    """The address in a struct sockaddr (Linux): sockaddr_in, sockaddr_in6 or sockaddr_un."""
    family, rest = int.from_bytes(address[:2], sys.byteorder), address[2:]
    if family == socket.AF_UNIX:
        return os.fsdecode(b"@" + rest[1:] if rest[:1] == b"\0" else rest.split(b"\0")[0])
    if family == socket.AF_INET:
        return _joined(str(ip_address(rest[2:6])), int.from_bytes(rest[:2], "big"))
    if family == socket.AF_INET6:
        return _joined(str(ip_address(rest[6:22])), int.from_bytes(rest[:2], "big"))
    return ""


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)
