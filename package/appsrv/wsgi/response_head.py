"""What an application gives to `start_response`, checked and turned into lines. Pure, apart from its caches.

PEP 3333: native strings, no control characters. What breaks that is an `ApplicationError`: such a header is never
repaired, so that nothing an attacker put into a value reaches the wire. Fields of the connection are left out, since
that is the server's; a wish to have it closed is heeded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from appsrv.errors import ApplicationError
from appsrv.http.syntax import HOP_BY_HOP_FIELDS, TOKEN, split_list

__all__ = ["EncodedHead", "LeftOut", "encode_head", "known_heads"]

# Code, status line and field lines, Content-Length (-1: none), whether there is a Date.
EncodedHead = tuple[int, bytes, int, bool]


class LeftOut(NamedTuple):
    """Fields that an application gave and the client does not get. `close`: one of them asks to end the connection."""

    names: list[str]
    close: bool


# The meaning of a line: an ordinary one, a Date, a field of the connection, such a one that ends it, `Upgrade`,
# `Connection: upgrade`, or (0 and more) the Content-Length.
ORDINARY = -1
DATE = -2
HOP_BY_HOP = -3
CLOSE = -4
UPGRADE = -5
CONNECTION_UPGRADE = -6

_CACHE_SIZE = 2048
_CACHED_LENGTH = 256

_STATUS = re.compile(r"([2-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_NAME = re.compile(TOKEN)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SPACE = " \t"
_LENGTH = re.compile(r"[0-9]{1,18}")

# `trailers` is how RFC 2616, to which PEP 3333 refers, and `wsgiref` spell the field.
_CONNECTION_FIELDS = HOP_BY_HOP_FIELDS | {"trailers"}

# What has been checked before: (status, *headers) -> head, (name, value) -> line and its meaning, status -> code and
# line. Bounded, and nothing that is one client's alone. The first is looked into by `wsgi`, which spares a call.
known_heads: dict[tuple[object, ...], EncodedHead] = {}
_header_lines: dict[tuple[str, str], tuple[bytes, int]] = {}
_status_lines: dict[str, tuple[int, bytes]] = {}
_KNOWN_HEADS = 512
_KNOWN_SIZE = 1024
_PERSONAL = b"\r\nset-cookie:"


def encode_head(status: str, headers: Iterable[tuple[str, str]]) -> tuple[EncodedHead, LeftOut | None]:
    """The head that an application has given, as bytes without Date and empty line, and what is not in it.

    Raises `ApplicationError`.
    """
    code, status_line = _status_lines.get(status) or _encode_status(status)
    pairs = [_as_tuple(pair) for pair in headers]
    length, has_date, lines, names, close = -1, False, [status_line], [], False
    upgrades, connections = False, []
    for pair in pairs:
        line, meaning = _known_line(pair) or _encode_header(pair)
        if meaning >= 0:
            if length not in (-1, meaning):
                raise ApplicationError("two different Content-Length headers in one response")
            # RFC 9110 section 8.6: 204 never has a Content-Length. A second one would have the same value.
            if code != 204 and length < 0:
                lines.append(line)
            length = meaning
        elif meaning >= DATE:
            has_date = has_date or meaning == DATE
            lines.append(line)
        elif meaning == UPGRADE and code == 426:
            # It says what to upgrade to, and Connection that it is for this connection (RFC 9110 section 15.5.22).
            lines += (line, b"Connection: upgrade\r\n")
            upgrades = True
        elif meaning == CLOSE:
            close = True
        elif meaning == CONNECTION_UPGRADE:
            connections.append(pair[0])
        else:
            names.append(pair[0])
    if not upgrades:
        names += connections
    result = code, b"".join(lines), length, has_date
    if names or close:
        return result, LeftOut(names, close)
    _remember(status, pairs, result)
    return result, None


def _as_tuple(pair: Any) -> tuple[str, str]:
    """A list of two in place of a tuple will do; for anything else `_check_header` has the words."""
    return tuple(pair) if type(pair) is list else pair


def _remember(status: str, pairs: list[tuple[str, str]], head: EncodedHead) -> None:
    if len(head[1]) <= _KNOWN_SIZE and _PERSONAL not in head[1].lower():
        if len(known_heads) >= _KNOWN_HEADS:
            known_heads.clear()
        key: tuple[object, ...] = (status, *pairs)
        known_heads[key] = head


def _known_line(pair: tuple[str, str]) -> tuple[bytes, int] | None:
    try:
        return _header_lines.get(pair)
    except TypeError:
        # Something in it cannot be a key: `_encode_header` has the words for it.
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
    # White space around a value is no part of it (RFC 9110 section 5.5).
    line = f"{name}: {value.strip(_SPACE)}\r\n".encode("latin-1")
    result = line, _meaning(name.lower(), value.strip(_SPACE))
    if len(line) <= _CACHED_LENGTH and name.lower() != "set-cookie":
        if len(_header_lines) >= _CACHE_SIZE:
            _header_lines.clear()
        _header_lines[name, value] = result
    return result


def _check_header(pair: object) -> tuple[str, str]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ApplicationError(f"a response header is not a tuple of two strings: {pair!r}")
    name, value = pair
    if not isinstance(name, str) or not isinstance(value, str):
        raise ApplicationError(f"a response header is not of native strings: {pair!r}")
    if not _NAME.fullmatch(name):
        raise ApplicationError(f"malformed name of a response header: {name!r}")
    if not _VALUE.fullmatch(value):
        raise ApplicationError(f"control or non-latin-1 character in the response header {name}: {value!r}")
    return str(name), str(value)


def _meaning(name: str, value: str) -> int:
    if name in _CONNECTION_FIELDS:
        if name == "upgrade":
            return UPGRADE
        return _meaning_of_connection(split_list(value)) if name == "connection" else HOP_BY_HOP
    if name == "content-length":
        if not _LENGTH.fullmatch(value):
            raise ApplicationError(f"malformed Content-Length in a response: {value!r}")
        return int(value)
    return DATE if name == "date" else ORDINARY


def _meaning_of_connection(options: list[str]) -> int:
    if "close" in options:
        return CLOSE
    return CONNECTION_UPGRADE if options == ["upgrade"] else HOP_BY_HOP
