"""response.py: appsrv's own answers."""

from __future__ import annotations

import pytest

from appsrv.http.head import Limits, parse_head
from appsrv.http.response import Response, error_response, http_date, serialize
from appsrv.http.syntax import RequestHead

DATE = b"Sun, 22 Nov 2026 16:00:00 GMT"


def head_of(method: str = "GET", version: str = "1.1") -> RequestHead:
    parsed = parse_head(f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode(), Limits())
    assert parsed is not None
    return parsed[0]


def test_date() -> None:
    assert http_date(1795363200.9) == b"Sun, 22 Nov 2026 16:00:00 GMT"


def test_serialize() -> None:
    response = Response(418, "Teapot", [("X-A", "b")], b"tea")
    assert serialize(response, keep_alive=True, head=head_of(), date=DATE) == (
        b"HTTP/1.1 418 Teapot\r\nX-A: b\r\nContent-Length: 3\r\nDate: Sun, 22 Nov 2026 16:00:00 GMT\r\n\r\ntea"
    )


@pytest.mark.parametrize(
    ("version", "keep_alive", "line"),
    [("1.1", False, b"Connection: close"), ("1.0", True, b"Connection: keep-alive")],
)
def test_serialize_says_what_becomes_of_the_connection(version: str, keep_alive: bool, line: bytes) -> None:
    data = serialize(error_response(503), keep_alive=keep_alive, head=head_of(version=version), date=DATE)
    assert line in data.split(b"\r\n")


def test_serialize_to_head_has_no_body_but_its_length() -> None:
    page = error_response(404)
    data = serialize(page, keep_alive=True, head=head_of("HEAD"), date=DATE)
    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(page.body) in data


def test_serialize_to_a_request_that_could_not_be_read() -> None:
    data = serialize(error_response(400), keep_alive=False, head=None)
    assert data.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nDate: " in data


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505, 507, 599])
def test_error_pages(status: int) -> None:
    page = error_response(status, error_id="abc123", detail="<why>")
    assert page.status == status
    assert str(status).encode() in page.body
    assert b"abc123" in page.body
    assert b"&lt;why&gt;" in page.body
    assert b"<why>" not in page.body


def test_error_page_with_retry_after_and_traceback() -> None:
    page = error_response(503, retry_after=7, traceback="<boom> \udcff")
    assert ("Retry-After", "7") in page.headers
    assert b"&lt;boom&gt;" in page.body
