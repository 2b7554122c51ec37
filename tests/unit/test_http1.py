"""http1.py and http1_body.py: the wire cases, however cut; heads and bodies that hypothesis thinks of."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appsrv.environ import build_environ
from appsrv.errors import RequestError
from appsrv.http1 import HeadReader, parse_head
from appsrv.http1_body import ChunkedBody, body_reader
from appsrv.http_syntax import METHODS, Limits, RequestHead
from support.wire import WireCase, pieces_of, wire_cases

LIMITS = Limits()

Read = tuple[RequestHead, bytes]


def read_pieces(pieces: list[bytes], limits: Limits = LIMITS) -> tuple[list[Read], int | None, bytes]:
    """The way of the slow lane: (requests, status of the refusal, bytes left over)."""
    requests: list[Read] = []
    rest = b""
    source = iter(pieces)
    try:
        while True:
            reader = HeadReader(limits)
            while (found := reader.feed(rest)) is None:
                rest = next(source)
            head, _, rest = found
            body = body_reader(head, limits)
            content, rest = body.feed(rest)
            while not body.complete:
                more, rest = body.feed(next(source))
                content += more
            requests.append((head, content))
            rest = rest or next(source)
    except StopIteration:
        return requests, None, b""
    except RequestError as error:
        return requests, error.status, rest


def read_whole(data: bytes, limits: Limits = LIMITS) -> tuple[list[Read], int | None]:
    """The way of a worker, which has everything in one piece."""
    requests: list[Read] = []
    try:
        while data:
            parsed = parse_head(data, limits)
            if parsed is None:
                break
            head, offset = parsed
            body = body_reader(head, limits)
            content, data = body.feed(data[offset:])
            if not body.complete:
                break
            requests.append((head, content))
    except RequestError as error:
        return requests, error.status
    return requests, None


def environ_of(head: RequestHead, body: bytes) -> dict[str, Any]:
    length = len(body) if head.content_length is not None or head.chunked else None
    return build_environ(
        {"SCRIPT_NAME": "", "SERVER_NAME": "", "SERVER_PROTOCOL": "HTTP/1.1"}, head, input=None, content_length=length
    )


def described(request: Read, expected: dict[str, Any]) -> dict[str, Any]:
    """The request in the words of a wire case."""
    head, body = request
    environ = environ_of(head, body)
    return {
        "method": head.method,
        "version": head.version,
        "body": body.decode("latin-1"),
        "keep_alive": head.keep_alive,
        "environ": {key: environ.get(key) for key in expected["environ"]},
    }


def plain(requests: list[Read]) -> list[Any]:
    return [(*head, body) for head, body in requests]


@pytest.mark.parametrize("case", wire_cases("valid"), ids=lambda case: case.name)
def test_valid(case: WireCase) -> None:
    requests, status = read_whole(case.data)
    assert status is None
    assert len(requests) == len(case.expected)
    assert [described(*pair) for pair in zip(requests, case.expected, strict=True)] == case.expected


@pytest.mark.parametrize("case", wire_cases("valid"), ids=lambda case: case.name)
def test_valid_however_cut(case: WireCase) -> None:
    whole, _ = read_whole(case.data)
    for pieces in pieces_of(case.data):
        requests, status, rest = read_pieces(pieces)
        assert (plain(requests), status, rest) == (plain(whole), None, b""), pieces


@pytest.mark.parametrize("case", wire_cases("invalid"), ids=lambda case: case.name)
def test_invalid(case: WireCase) -> None:
    assert read_whole(case.data) == ([], case.expected)


@pytest.mark.parametrize("case", wire_cases("invalid"), ids=lambda case: case.name)
def test_invalid_however_cut(case: WireCase) -> None:
    for pieces in pieces_of(case.data):
        requests, status, _ = read_pieces(pieces)
        assert (requests, status) == ([], case.expected), pieces


def test_incomplete_heads_are_awaited() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for end in range(len(data)):
        assert parse_head(data[:end], LIMITS) is None
    assert parse_head(data, LIMITS) is not None


def test_offset_is_the_first_byte_behind_the_head() -> None:
    for blank in (b"", b"\r\n"):
        data = blank + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        parsed = parse_head(data + b"rest", LIMITS)
        assert parsed is not None
        assert parsed[1] == len(data)


def test_limits_are_those_given() -> None:
    data = b"GET /abcdef HTTP/1.1\r\nHost: a\r\nX-A: bcd\r\n\r\n"
    exact = Limits(request_line=22, header_line=10, header_block=len(data), header_count=2)
    assert read_whole(data, exact)[1] is None
    for limits, status in (
        (Limits(request_line=21), 414),
        (Limits(header_line=9), 431),
        (Limits(header_block=len(data) - 1), 431),
        (Limits(header_count=1), 431),
    ):
        assert read_whole(data, limits)[1] == status, limits


def test_byte_by_byte_is_linear() -> None:
    """64 KiB in single bytes must not cost 64 KiB for each of them."""
    line = b"X-A: " + b"a" * 700 + b"\r\n"
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + line * 80 + b"\r\n"
    reader = HeadReader(LIMITS)
    started = time.process_time()
    results = [reader.feed(data[i : i + 1]) for i in range(len(data))]
    assert results[-1] is not None
    assert time.process_time() - started < 2


def test_chunked_in_tiny_chunks_keeps_its_books() -> None:
    body = ChunkedBody(Limits(body=1000))
    content, rest = body.feed(b"1\r\nx\r\n" * 1000 + b"0\r\n\r\nGET")
    assert (content, rest, body.complete, body.received) == (b"x" * 1000, b"GET", True, 1000)


def test_chunked_body_limit_counts_all_chunks() -> None:
    body = ChunkedBody(Limits(body=10))
    with pytest.raises(RequestError) as caught:
        body.feed(b"6\r\n123456\r\n6\r\n")
    assert caught.value.status == 413


def test_expect_continue_only_with_a_body() -> None:
    for line, expected in ((b"Content-Length: 1\r\n", True), (b"Content-Length: 0\r\n", False), (b"", False)):
        parsed = parse_head(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + line + b"\r\n", LIMITS)
        assert parsed is not None
        assert parsed[0].expect_continue is expected


# -- what hypothesis thinks of -----------------------------------------------------------------------------

# The same examples in every run: a failure is one that anybody can see again.
reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=200)

TOKEN_LETTERS = "!#$%&'*+-.^`|~09azAZ_"
VALUE_BYTES = [*range(0x20, 0x7F), *range(0x80, 0x100), 0x09]

names = st.text(TOKEN_LETTERS, min_size=1, max_size=8).map(lambda text: b"X-" + text.encode())
values = st.lists(st.sampled_from(VALUE_BYTES), max_size=12).map(bytes)
targets = st.lists(st.sampled_from([c for c in VALUE_BYTES if c not in b" \t#"]), max_size=12).map(
    lambda codes: b"/" + bytes(codes)
)
bodies = st.one_of(st.none(), st.binary(max_size=40))
methods = st.sampled_from(sorted(METHODS))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is right, with a body of either framing or none."""
    lines = [draw(methods) + b" " + draw(targets) + b" HTTP/1.1", b"Host: a.example"]
    lines += [name + b":" + value for name, value in draw(st.lists(st.tuples(names, values), max_size=4))]
    body = draw(bodies)
    if body is None:
        return b"\r\n".join(lines) + b"\r\n\r\n"
    if draw(st.booleans()):
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + chunks


def serialized(head: RequestHead, body: bytes) -> bytes:
    """The request again, in the plainest spelling."""
    lines = [b"%b %b HTTP/%b" % (head.method.encode(), head.target, head.version.encode())]
    lines += [name + b": " + value for name, value in head.headers]
    content = body
    if head.chunked:
        content = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def meaning(request: Read) -> tuple[Any, ...]:
    head, body = request
    return (*head._replace(raw=b""), body)


@reproducible
@given(requests())
def test_right_requests_are_read_and_mean_the_same_when_written_again(data: bytes) -> None:
    read, status = read_whole(data)
    assert status is None
    assert len(read) == 1
    again, status = read_whole(serialized(*read[0]))
    assert status is None
    assert [meaning(request) for request in again] == [meaning(request) for request in read]


@reproducible
@given(st.lists(requests(), min_size=1, max_size=3), st.data())
def test_cuts_change_nothing(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole, status = read_whole(stream)
    requests_read, cut_status, _ = read_pieces([piece for piece in pieces if piece])
    assert (plain(requests_read), cut_status) == (plain(whole), status)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with some bytes replaced, removed or put in."""
    data = bytearray(draw(requests()))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data) - 1))
        end = place + draw(st.integers(0, 2))
        data[place:end] = draw(st.sampled_from([b"", b"\r", b"\n", b"\x00", b" ", b"\t", b":", b",", b"\r\n", b"0"]))
        data = data or bytearray(b"x")
    return bytes(data)


@reproducible
@given(damaged())
def test_damage_is_judged_alike_on_both_ways(data: bytes) -> None:
    whole, status = read_whole(data)
    pieces, cut_status, _ = read_pieces([data[i : i + 1] for i in range(len(data))])
    assert (plain(pieces), cut_status) == (plain(whole), status)
    for head, body in whole:
        again, status = read_whole(serialized(head, body))
        assert status is None
        assert [meaning(request) for request in again] == [meaning((head, body))]


class Witness:
    """What httptools itself makes of a head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value.strip(b" \t")))


@reproducible
@given(damaged())
def test_what_we_read_is_what_httptools_reads(data: bytes) -> None:
    read, _ = read_whole(data)
    for head, _ in read:
        witness = Witness()
        line, _, rest = head.raw.partition(b"\r\n")
        ascii_line = line.translate(bytes(range(128)) + b"x" * 128)
        parser = httptools.HttpRequestParser(witness)
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(ascii_line + b"\r\n" + rest)
        assert witness.headers == head.headers
        assert len(witness.url) == len(head.target)
        assert parser.get_method().decode() == head.method
