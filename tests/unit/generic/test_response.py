"""The quick way to read the head of a response takes nothing that h11 does not, and reads the same in it."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appsrv.generic.response import ResponseHead, quick_head

PLAIN = b"HTTP/1.1 200 OK\r\nX-oDD:  a b\t\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\nx-odd: \xe9\r\n\r\nok"


def test_what_is_usual() -> None:
    head = ResponseHead(
        200, "OK", [("X-oDD", "a b"), ("Connection", "Keep-Alive"), ("Content-Length", "2"), ("x-odd", "\xe9")]
    )
    assert quick_head(PLAIN, "GET") == (head, len(PLAIN) - 2, 2)
    assert quick_head(PLAIN[:-1], "GET") == (head, len(PLAIN) - 2, 2), "the body may be on its way"
    assert quick_head(b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", "GET") is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"HTTP/1.1 2", b"HTTP/1.0 2"), (b"HTTP/1.1 2", b"HTTP/2.0 2"), (b"HTTP/1.1 2", b"HTTP/1.1 1"),
        (b"200", b"204"), (b"200", b"304"), (b"200 OK", b"200"), (b"200 OK", b"200 O\x01K"), (b"200", b"2000"),
        (b"X-oDD", b"X oDD"), (b"X-oDD", b" X-oDD"), (b"X-oDD:", b"X-oDD :"), (b"X-oDD:", b"X-oDD"), (b"X-oDD", b""),
        (b"a b", b"a\0b"), (b"a b", b"a\rb"), (b"a b", b"a\nb"), (b"a b", b"a\r\n b"),
        (b"a b", b"a\nContent-Length: 9"),
        (b"Content-Length: 2", b"Content-Length: 2, 2"), (b"Content-Length: 2", b"Content-Length: +2"),
        (b"Content-Length: 2", b"Content-Length:"), (b"Content-Length: 2", b"X: 2"),
        (b"x-odd: \xe9", b"content-length: 2"), (b"x-odd: \xe9", b"transfer-encoding: chunked"),
        (b"Keep-Alive", b"close"), (b"Keep-Alive", b"x-odd"), (b"\r\nok", b"\r\nok more than that"),
        (b"\r\n\r\n", b"\r\n"),
    ],
)  # fmt: skip
def test_what_is_not(before: bytes, after: bytes) -> None:
    assert before in PLAIN
    assert quick_head(PLAIN.replace(before, after, 1), "GET") is None


def test_what_answers_head_has_no_body() -> None:
    assert quick_head(PLAIN, "HEAD") is None


PIECES = (
    *(b"HTTP/1.1", b"HTTP/1.0", b" ", b"200", b"204", b"101", b"OK", b"\r\n", b"\r\n", b"\n", b"\r", b"\t", b":"),
    *(b"Content-Length: 2", b"content-length:", b"Transfer-Encoding: chunked", b"Connection: close", b"X", b"2"),
    *(b"\0", b"\xff"),
)


@given(st.lists(st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 4), st.sampled_from(PIECES)), max_size=3))
def test_it_reads_what_h11_reads(changes: list[tuple[int, int, bytes]]) -> None:
    data = PLAIN
    for at, gone, new in changes:
        data = data[:at] + new + data[at + gone :]
    quick = quick_head(data, "GET")
    if quick is None:
        return
    head, start, length = quick
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "-")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    response, body = connection.next_event(), b""
    assert isinstance(response, h11.Response)
    assert (head.status_code, head.reason.encode("latin-1")) == (response.status_code, bytes(response.reason))
    read = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.fields]
    assert read == [(bytes(name), bytes(value)) for name, value in response.headers.raw_items()]
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert body == data[start:]
    assert isinstance(event, h11.EndOfMessage) == (len(body) == length)
    assert not connection.trailing_data[0]
