"""The header of the PROXY protocol, versions 1 and 2: bytes in, the client's address out. Pure.

Source: "The PROXY protocol, versions 1 & 2" (haproxy.org). Reads no bytes after the header. Knows neither sockets nor
which peers may send such a header.
"""

from __future__ import annotations

import re
import socket
import struct
from typing import NamedTuple

from appsrv.errors import RequestError
from appsrv.http.trusted_proxies import plain_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MAX_LINE_BYTES = 107
"""The longest line of version 1, with CR LF."""
FIXED_BYTES = 16
"""The length of the fixed part of version 2."""
MAX_REST_BYTES = 4096
"""The longest variable part of version 2 that is accepted."""
MAX_HEADER_BYTES = FIXED_BYTES + MAX_REST_BYTES

_LINE = re.compile(r"PROXY (TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
_LOCAL, _PROXY = 0x20, 0x21
# Values of the byte "address family and transport", and the family and length of the addresses that follow. UNSPEC and
# unix stream sockets have no IP address.
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESS_FORMATS = {_TCP4: (socket.AF_INET, 4), _TCP6: (socket.AF_INET6, 16)}
_NOT_IP = frozenset((0x00, 0x31))


class Header(NamedTuple):
    """A header of `length` bytes.

    `address` is None for a connection of the proxy itself (LOCAL), and "" if the header has no IP address of the client
    (UNKNOWN, or not TCP over IP). Such a client must not be trusted as the proxy is.
    """

    length: int
    address: str | None = None
    port: int = 0


def parse(data: bytes) -> Header | None:
    """The header at the start of `data`; None if it is incomplete, and all of `data` belongs to it.

    Raises RequestError (400) if `data` does not start with a valid header.
    """
    if SIGNATURE.startswith(data[: len(SIGNATURE)]):
        return _parse_binary(data) if len(data) >= FIXED_BYTES else None
    if b"PROXY ".startswith(data[:6]):
        return _parse_line(data)
    raise RequestError(400, "it does not start with a PROXY protocol header")


def _parse_line(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, MAX_LINE_BYTES)
    if end < 0:
        if len(data) >= MAX_LINE_BYTES:
            raise RequestError(400, "its PROXY protocol line is too long")
        return None
    line = data[:end].decode("latin-1")
    if line == "PROXY UNKNOWN" or line.startswith("PROXY UNKNOWN "):
        return Header(end + 2, "")
    match = _LINE.fullmatch(line)
    places = [plain_address(match[2]), plain_address(match[3])] if match else [None]
    if match is None or None in places or (":" in match[2], ":" in match[3]) != (match[1] == "TCP6",) * 2:
        raise RequestError(400, "its PROXY protocol line is malformed")
    if max(int(match[4]), int(match[5])) > 65535:
        raise RequestError(400, "its PROXY protocol line names no port")
    return Header(end + 2, places[0], int(match[4]))


def _parse_binary(data: bytes) -> Header | None:
    command, kind, rest = struct.unpack_from("!BBH", data, len(SIGNATURE))
    if command not in (_LOCAL, _PROXY):
        raise RequestError(400, "its PROXY protocol header has an unknown version or command")
    if rest > MAX_REST_BYTES:
        raise RequestError(400, f"its PROXY protocol header is longer than {MAX_HEADER_BYTES} bytes")
    if command == _PROXY and kind not in _NOT_IP:
        family, size = _ADDRESS_FORMATS.get(kind, (socket.AF_INET, MAX_HEADER_BYTES))
        if rest < 2 * size + 4:
            raise RequestError(400, "its PROXY protocol header names no TCP connection")
        if len(data) < FIXED_BYTES + rest:
            return None
        source = socket.inet_ntop(family, data[FIXED_BYTES : FIXED_BYTES + size])
        (port,) = struct.unpack_from("!H", data, FIXED_BYTES + 2 * size)
        return Header(FIXED_BYTES + rest, plain_address(source), port)
    return Header(FIXED_BYTES + rest, None if command == _LOCAL else "") if len(data) >= FIXED_BYTES + rest else None
