"""A fast parser for the plain response heads of the upstream process.

A plain head has HTTP/1.1, one Content-Length and well-formed fields. h11 parses, or refuses, every other head. Pure,
except for its cache.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from appsrv.http.syntax import is_field_value, is_token, length_of

__all__ = ["ResponseHead", "quick_head"]

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
# These statuses have no body, whatever their fields are (RFC 9112 section 6.3).
_BODILESS = frozenset({204, 304})
_MAX_CACHED_FIELDS, _MAX_CACHED_LINE_BYTES = 2048, 256

_Field = tuple[str, tuple[str, str]]
# Cache of parsed lines: the name in lower case, and the name and value as received. It holds no cookies.
_known_fields: dict[bytes, _Field] = {}


class ResponseHead(NamedTuple):
    """The head of a response; `fields` keep their order, case and repetition."""

    status_code: int
    reason: str
    fields: list[tuple[str, str]]


def quick_head(data: bytes, method: str) -> tuple[ResponseHead, int, int] | None:
    """(head, offset of the body in `data`, length of the body) of a plain response to a request with `method`.

    None if the head is incomplete or not plain; it may be valid or not.
    """
    end = data.find(b"\r\n\r\n")
    lines = data[: max(end, 0)].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None or method == "HEAD":
        return None
    fields, length = [], None
    for line in lines[1:]:
        known = _known_fields.get(line) or _field_of(line)
        if known is None:
            return None
        name, field = known
        fields.append(field)
        if name == "content-length":
            if length is not None:
                return None
            length = length_of(field[1])
            if length is None:
                return None
        elif name == "transfer-encoding" or (name == "connection" and field[1].lower() != "keep-alive"):
            return None
    code = int(match[1])
    if length is None or code in _BODILESS or len(data) > end + 4 + length:
        return None
    return ResponseHead(code, match[2].decode("latin-1"), fields), end + 4, length


def _field_of(line: bytes) -> _Field | None:
    """The field of a line; None if the line is malformed or continues the previous one (RFC 9112 section 5.2)."""
    name, colon, raw_value = line.partition(b":")
    if not colon or not is_token(name) or not is_field_value(raw_value):
        return None
    key, field = name.decode().lower(), (name.decode(), raw_value.strip(b" \t").decode("latin-1"))
    if len(line) <= _MAX_CACHED_LINE_BYTES and key != "set-cookie":
        if len(_known_fields) >= _MAX_CACHED_FIELDS:
            _known_fields.clear()
        _known_fields[line] = key, field
    return key, field
