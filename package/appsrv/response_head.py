"""What an application gives to `start_response`, checked and turned into lines. Pure, apart from its caches.

PEP 3333: native strings, no control characters, no hop-by-hop fields. What breaks that is an
`ApplicationError`: a header is never repaired, so that nothing an attacker put into a value reaches the wire.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from appsrv.errors import ApplicationError

__all__ = ["EncodedHead", "encode_head", "known_heads"]

# Code, status line and field lines, Content-Length (-1: none), whether there is a Date.
EncodedHead = tuple[int, bytes, int, bool]

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

# What has been checked before: (status, *headers) -> head, (name, value) -> line and its meaning, status -> code and
# line. Bounded, and nothing that is one client's alone. The first is looked into by `wsgi`, which spares a call.
known_heads: dict[tuple[object, ...], EncodedHead] = {}
_header_lines: dict[tuple[str, str], tuple[bytes, int]] = {}
_status_lines: dict[str, tuple[int, bytes]] = {}
_KNOWN_HEADS = 512
_KNOWN_SIZE = 1024
_PERSONAL = b"\r\nset-cookie:"


def encode_head(status: str, headers: Sequence[tuple[str, str]]) -> EncodedHead:
    """The head that an application has given, as bytes without Date and empty line. Raises `ApplicationError`."""
    code, status_line = _status_lines.get(status) or _encode_status(status)
    length, has_date, lines = -1, False, [status_line]
    for pair in headers:
        line, meaning = _known_line(pair) or _encode_header(pair)
        if meaning >= 0:
            if length >= 0:
                raise ApplicationError("two Content-Length headers in one response")
            length = meaning
            if code == 204:  # RFC 9110 section 8.6: never a Content-Length.
                continue
        elif meaning == DATE:
            has_date = True
        lines.append(line)
    result = code, b"".join(lines), length, has_date
    if len(result[1]) <= _KNOWN_SIZE and _PERSONAL not in result[1].lower():
        if len(known_heads) >= _KNOWN_HEADS:
            known_heads.clear()
        key = (status, *headers)
        known_heads[key] = result
    return result


def _known_line(pair: tuple[str, str]) -> tuple[bytes, int] | None:
    try:
        return _header_lines.get(pair)
    except TypeError:
        # A list in place of a tuple, say: `_encode_header` has the words for it.
        return None


def _encode_status(status: str) -> tuple[int, bytes]:
    """The code and status line of "200 OK". Raises `ApplicationError`."""
    match = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if match is None:
        raise ApplicationError(f'status is not a string like "200 OK": {status!r}')
    if len(_status_lines) >= _CACHE_SIZE:
        _status_lines.clear()
    result = int(match[1]), f"HTTP/1.1 {match[1]} {match[2] or ''}\r\n".encode("latin-1")
    _status_lines[status] = result
    return result


def _encode_header(pair: tuple[str, str]) -> tuple[bytes, int]:
    """The line of one header and its meaning. Raises `ApplicationError`."""
    name, value = _check_header(pair)
    line = f"{name}: {value}\r\n".encode("latin-1")
    result = line, _meaning(name.lower(), value)
    if len(line) <= _CACHED_LENGTH and name.lower() != "set-cookie":
        if len(_header_lines) >= _CACHE_SIZE:
            _header_lines.clear()
        _header_lines[name, value] = result
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
