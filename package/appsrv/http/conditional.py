"""Conditional requests and ranges (RFC 9110 sections 13 and 14) for one representation. Pure: sends nothing.

Only single ranges are supported: a request for several ranges gets the whole representation, as section 14.2 allows.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from email.utils import parsedate
from typing import NamedTuple

_TAGS = re.compile(r'(W/)?("[^"]*")')
_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)


class Representation(NamedTuple):
    """The current representation. `etag` is strong and has its quotes; `modified` is in seconds since the epoch."""

    etag: str
    modified: int
    size: int


class Part(NamedTuple):
    """The status of the response: 200, 206, 304, 412 or 416. For the first two, `length` bytes from `start` follow."""

    status: int
    start: int = 0
    length: int = 0


def part_for(method: str, fields: Mapping[str, str], whole: Representation) -> Part:
    """The response to a GET or HEAD with these fields (by CGI names: `HTTP_IF_MATCH`), in the order of section 13.2.2.
    """
    if _failed(fields, whole):
        return Part(412)
    if _unchanged(fields, whole):
        return Part(304)
    wanted = fields.get("HTTP_RANGE")
    if wanted is None or method != "GET" or not _if_range(fields.get("HTTP_IF_RANGE"), whole):
        return Part(200, 0, whole.size)
    return _range(wanted, whole.size)


def _failed(fields: Mapping[str, str], whole: Representation) -> bool:
    """Whether If-Match, or without it If-Unmodified-Since, fails (sections 13.1.1 and 13.1.4)."""
    match = fields.get("HTTP_IF_MATCH")
    if match is not None:
        return match.strip() != "*" and ("", whole.etag) not in _TAGS.findall(match)
    since = _seconds(fields.get("HTTP_IF_UNMODIFIED_SINCE"))
    return since is not None and whole.modified > since


def _unchanged(fields: Mapping[str, str], whole: Representation) -> bool:
    """Whether If-None-Match, or without it If-Modified-Since, fails (sections 13.1.2 and 13.1.3)."""
    match = fields.get("HTTP_IF_NONE_MATCH")
    if match is not None:
        return match.strip() == "*" or whole.etag in (tag for _, tag in _TAGS.findall(match))
    since = _seconds(fields.get("HTTP_IF_MODIFIED_SINCE"))
    return since is not None and whole.modified <= since


def _if_range(validator: str | None, whole: Representation) -> bool:
    """Whether the parts that the client already has are of this version (If-Range, section 13.1.5)."""
    if validator is None:
        return True
    return validator.strip() == whole.etag or _seconds(validator) == whole.modified


def _range(wanted: str, size: int) -> Part:
    match = _RANGE.fullmatch(wanted.strip())
    if match is None:
        return Part(200, 0, size)
    first, last, suffix = match.groups()
    if suffix is not None:
        count = min(int(suffix), size)
        return Part(206, size - count, count) if count else Part(416)
    start, end = int(first), min(int(last or size), size - 1)
    if last and int(last) < start:
        return Part(200, 0, size)
    return Part(206, start, end - start + 1) if start < size else Part(416)


def _seconds(date: str | None) -> int | None:
    """Seconds since the epoch of an HTTP date; None for an invalid one, which is ignored (section 13.1.3)."""
    parts = parsedate(date) if date else None
    if parts is None:
        return None
    try:
        return timegm(parts)
    except (ValueError, OverflowError):
        return None
