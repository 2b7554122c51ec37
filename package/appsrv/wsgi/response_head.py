"""Checks the arguments of `start_response` and encodes them as the lines of a response head. Pure, except for caches.

PEP 3333 demands native strings without control characters. A header that breaks this raises `ApplicationError`; it is
never repaired, so that nothing that an attacker put into a value reaches the wire. Hop-by-hop fields are omitted,
because the server manages the connection; `Connection: close` among them closes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from appsrv.errors import ApplicationError
from appsrv.http.syntax import HOP_BY_HOP_FIELDS, TOKEN, split_list

__all__ = ["EncodedHead", "OmittedFields", "encode_head", "known_heads"]

# Status code; status line and field lines; Content-Length (-1: none); whether the application gave a Date.
EncodedHead = tuple[int, bytes, int, bool]


class OmittedFields(NamedTuple):
    """Fields of the application that the client does not get. `close`: one of them was `Connection: close`."""

    names: list[str]
    close: bool


# The meaning of a line: an ordinary field, Date, a hop-by-hop field, `Connection: close`, `Upgrade`, `Connection:
# upgrade`; 0 and above is the value of a Content-Length.
ORDINARY = -1
DATE = -2
HOP_BY_HOP = -3
CLOSE = -4
UPGRADE = -5
CONNECTION_UPGRADE = -6

_MAX_CACHED_LINES = 2048
_MAX_CACHED_LINE_BYTES = 256

_STATUS = re.compile(r"([2-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_NAME = re.compile(TOKEN)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SPACE = " \t"
_LENGTH = re.compile(r"[0-9]{1,18}")

# RFC 2616, to which PEP 3333 refers, and `wsgiref` spell the field Trailer as `trailers`.
_CONNECTION_FIELDS = HOP_BY_HOP_FIELDS | {"trailers"}

# Caches of checked arguments: (status, *headers) -> head, (name, value) -> line and meaning, status -> code and line.
# They are bounded and hold no cookies. `run` reads the first one itself, which saves a call for each response.
known_heads: dict[tuple[object, ...], EncodedHead] = {}
_header_lines: dict[tuple[str, str], tuple[bytes, int]] = {}
_status_lines: dict[str, tuple[int, bytes]] = {}
_MAX_KNOWN_HEADS = 512
_MAX_KNOWN_HEAD_BYTES = 1024
_SET_COOKIE = b"\r\nset-cookie:"


def encode_head(status: str, headers: Iterable[tuple[str, str]]) -> tuple[EncodedHead, OmittedFields | None]:
    """The head of a response as bytes, without the server's Date and the empty line, and the fields that it omits.

    Raises `ApplicationError` for a malformed status or header, or two different Content-Length fields.
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
            # RFC 9110 section 8.6: a 204 response must not have a Content-Length. A repeated field is dropped, too.
            if code != 204 and length < 0:
                lines.append(line)
            length = meaning
        elif meaning >= DATE:
            has_date = has_date or meaning == DATE
            lines.append(line)
        elif meaning == UPGRADE and code == 426:
            # A 426 response must send Upgrade (RFC 9110 section 15.5.22), and a sender of Upgrade must list it in
            # Connection (section 7.8).
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
        return result, OmittedFields(names, close)
    _remember(status, pairs, result)
    return result, None


def _as_tuple(pair: Any) -> tuple[str, str]:
    """A list of two strings is accepted in place of a tuple; `_check_header` rejects everything else."""
    return tuple(pair) if type(pair) is list else pair


def _remember(status: str, pairs: list[tuple[str, str]], head: EncodedHead) -> None:
    if len(head[1]) <= _MAX_KNOWN_HEAD_BYTES and _SET_COOKIE not in head[1].lower():
        # Threads share the caches. A cleared cache is refilled by the next responses, so no lock is needed.
        if len(known_heads) >= _MAX_KNOWN_HEADS:
            known_heads.clear()
        key: tuple[object, ...] = (status, *pairs)
        known_heads[key] = head


def _known_line(pair: tuple[str, str]) -> tuple[bytes, int] | None:
    try:
        return _header_lines.get(pair)
    except TypeError:
        # An element of it is not hashable. `_encode_header` raises the error for it.
        return None


def _encode_status(status: str) -> tuple[int, bytes]:
    """The code and status line of a status such as "200 OK". Raises `ApplicationError`."""
    match = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if match is None:
        raise ApplicationError(f'status is not a string like "200 OK": {status!r}')
    if len(_status_lines) >= _MAX_CACHED_LINES:
        _status_lines.clear()
    result = int(match[1]), f"HTTP/1.1 {match[1]} {match[2] or ''}\r\n".encode("latin-1")
    _status_lines[status] = result
    return result


def _encode_header(pair: tuple[str, str]) -> tuple[bytes, int]:
    """The line of one header and its meaning. Raises `ApplicationError`."""
    name, value = _check_header(pair)
    # Whitespace around a value is not part of the value (RFC 9110 section 5.5).
    line = f"{name}: {value.strip(_SPACE)}\r\n".encode("latin-1")
    result = line, _meaning(name.lower(), value.strip(_SPACE))
    if len(line) <= _MAX_CACHED_LINE_BYTES and name.lower() != "set-cookie":
        if len(_header_lines) >= _MAX_CACHED_LINES:
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
