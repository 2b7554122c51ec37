"""What an application gives to `start_response`, checked and turned into lines. Pure, apart from its caches.

PEP 3333: native strings, no control characters, no hop-by-hop fields. What breaks that is an
`ApplicationError`: a header is never repaired, so that nothing an attacker put into a value reaches the wire.
"""

from __future__ import annotations

import re

from appsrv.errors import ApplicationError

__all__ = ["DATE", "ORDINARY", "encode_header", "encode_status", "header_lines", "status_lines"]

# The meaning of a line: an ordinary one, a Date, or (0 and more) the Content-Length.
ORDINARY = -1
DATE = -2

_CACHE_SIZE = 2048
_CACHED_LENGTH = 256

_STATUS = re.compile(r"([2-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,18}")

# Fields of the connection, which is the server's (RFC 9110 section 7.6.1, and PEP 3333).
_HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "trailers", "transfer-encoding"),
        *("proxy-authenticate", "proxy-authorization", "upgrade"),
    }
)

# What has been checked before: (name, value) -> line and its meaning, status -> code and line. Bounded; filled
# here, looked into by `wsgi`, which spares the calls.
header_lines: dict[tuple[str, str], tuple[bytes, int]] = {}
status_lines: dict[str, tuple[int, bytes]] = {}


def encode_status(status: str) -> tuple[int, bytes]:
    """The code and status line of "200 OK". Raises `ApplicationError`."""
    match = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if match is None:
        raise ApplicationError(f'status is not a string like "200 OK": {status!r}')
    if len(status_lines) >= _CACHE_SIZE:
        status_lines.clear()
    result = int(match[1]), f"HTTP/1.1 {match[1]} {match[2] or ''}\r\n".encode("latin-1")
    status_lines[status] = result
    return result


def encode_header(pair: tuple[str, str]) -> tuple[bytes, int]:
    """The line of one header and its meaning. Raises `ApplicationError`."""
    name, value = _check_header(pair)
    line = f"{name}: {value}\r\n".encode("latin-1")
    result = line, _meaning(name.lower(), value)
    if len(line) <= _CACHED_LENGTH:
        if len(header_lines) >= _CACHE_SIZE:
            header_lines.clear()
        header_lines[name, value] = result
    return result


def _check_header(pair: object) -> tuple[str, str]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ApplicationError(f"a response header is not a tuple of two: {pair!r}")
    name, value = pair
    if not isinstance(name, str) or not isinstance(value, str):
        raise ApplicationError(f"a response header is not of native strings: {pair!r}")
    if not _NAME.fullmatch(name):
        raise ApplicationError(f"malformed name of a response header: {name!r}")
    if not _VALUE.fullmatch(value):
        raise ApplicationError(f"control or non-latin-1 character in the response header {name}: {value!r}")
    return str(name), str(value)


def _meaning(name: str, value: str) -> int:
    if name in _HOP_BY_HOP:
        raise ApplicationError(f"hop-by-hop response header {name!r}: the connection belongs to the server")
    if name == "content-length":
        if not _LENGTH.fullmatch(value):
            raise ApplicationError(f"malformed Content-Length in a response: {value!r}")
        return int(value)
    return DATE if name == "date" else ORDINARY
