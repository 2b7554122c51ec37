"""The table of limits in docs/http.md is what the parser does: the last size that passes, the first that does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from appsrv.errors import RequestError
from appsrv.http.body import body_reader
from appsrv.http.head import HeadReader
from appsrv.http.syntax import Limits

PAGE = Path(__file__).resolve().parents[3] / "docs" / "http.md"
UNITS = {"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Row(NamedTuple):
    """A row of the table: its first words, the field of `Limits`, the answer beyond it."""

    what: str
    field: str
    status: int


ROWS = [
    Row("request line", "request_line", 414),
    Row("one header field", "header_line", 431),
    Row("the whole head: request line and all header fields", "header_block", 431),
    Row("number of header fields", "header_count", 431),
    Row("empty lines before a request", "leading_blank_lines", 400),
    Row("body", "body", 413),
    Row("a chunk's size line", "chunk_line", 400),
    Row("all chunk extensions of a body", "chunk_extensions", 400),
    Row("trailers", "trailer_block", 431),
]


def request_with(field: str, size: int) -> bytes:
    """A request in which what `field` limits has exactly this size."""
    if field == "request_line":
        return b"GET /" + b"a" * (size - 16) + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    if field == "header_line":
        return HEAD + b"X: " + b"a" * (size - 5) + b"\r\n\r\n"
    if field == "header_block":
        filling = b"X: " + b"a" * 8187 + b"\r\n"
        count, rest = divmod(size - len(HEAD) - 2, len(filling))
        return HEAD + filling * (count - 1) + b"X: " + b"a" * (len(filling) + rest - 5) + b"\r\n\r\n"
    if field == "header_count":
        return HEAD + b"X: a\r\n" * (size - 1) + b"\r\n"
    if field == "leading_blank_lines":
        return b"\r\n" * size + HEAD + b"\r\n"
    if field == "body":
        return HEAD + b"Content-Length: %d\r\n\r\n" % size
    if field == "chunk_line":
        return CHUNKED + b"0;" + b"a" * (size - 4) + b"\r\n\r\n"
    if field == "chunk_extensions":
        count, rest = divmod(size - 2, 512)
        return CHUNKED + (b"1;" + b"a" * 511 + b"\r\nx\r\n") * count + b"0;" + b"a" * (rest + 1) + b"\r\n\r\n"
    return CHUNKED + b"0\r\nX-A: b\r\nX: " + b"a" * (size - 13) + b"\r\n\r\n"


def answer_to(data: bytes) -> int | None:
    """The status of the refusal, None when the request is taken."""
    reader = HeadReader(Limits())
    try:
        found = reader.feed(data)
        assert found is not None
        body_reader(found[0], Limits()).feed(found[2])
    except RequestError as error:
        return error.status
    return None


def table() -> dict[str, tuple[int, int]]:
    """Size and status by the first words of each row of the page's table that has both."""
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| ([^|]+?) \| ([0-9]+)(?: (bytes|[KMG]iB))?[^|]*\| ([0-9]{3})\b", line)
        if match:
            rows[match[1]] = int(match[2]) * UNITS[match[3] or ""], int(match[4])
    return rows


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.field)
def test_the_table_is_what_happens(row: Row) -> None:
    size, status = table()[row.what]
    assert (size, status) == (getattr(Limits(), row.field), row.status)
    assert answer_to(request_with(row.field, size)) is None
    assert answer_to(request_with(row.field, size + 1)) == status


def test_every_limit_stands_in_the_table() -> None:
    assert {row.field for row in ROWS} == set(Limits.__slots__)
