"""head.py and body.py: the wire cases, however cut; heads and bodies that hypothesis thinks of."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appsrv.errors import RequestError
from appsrv.http import head as http1
from appsrv.http.body import ChunkedBody
from appsrv.http.head import HeadReader, parse_head
from appsrv.http.syntax import METHODS, Limits, RequestHead
from appsrv.wsgi.environ import build_environ
from support.reading import LIMITS, Read, check, meaning, plain, read_pieces, read_whole, serialized
from support.wire import WireCase, failing_cases, pieces_of, wire_cases


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


def check_valid(case: WireCase) -> None:
    requests, status = read_whole(case.data)
    assert status is None
    assert len(requests) == len(case.expected)
    assert [described(*pair) for pair in zip(requests, case.expected, strict=True)] == case.expected


def check_valid_however_cut(case: WireCase) -> None:
    whole, _ = read_whole(case.data)
    for pieces in pieces_of(case.data):
        requests, status, rest = read_pieces(pieces)
        assert (plain(requests), status, rest) == (plain(whole), None, b""), pieces


def check_invalid(case: WireCase) -> None:
    assert read_whole(case.data) == ([], case.expected)


def check_invalid_however_cut(case: WireCase) -> None:
    for pieces in pieces_of(case.data):
        requests, status, _ = read_pieces(pieces)
        assert (requests, status) == ([], case.expected), pieces


@pytest.mark.parametrize(
    ("kind", "check_case"),
    [
        ("valid", check_valid),
        ("valid", check_valid_however_cut),
        ("invalid", check_invalid),
        ("invalid", check_invalid_however_cut),
    ],
)
def test_wire_cases(kind: str, check_case: Callable[[WireCase], None]) -> None:
    cases = wire_cases(kind)
    assert cases
    assert failing_cases(cases, check_case) == {}


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
methods = st.one_of(
    st.sampled_from(sorted(METHODS)), st.text(TOKEN_LETTERS, min_size=1, max_size=8).map(str.encode)
)


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


DAMAGE = [b"", b"\r", b"\n", b"\x00", b" ", b"\t", b":", b",", b"\r\n", b"0", b";", b'"', b"\x85", b"\r\n ", b"_", b"-"]

# Noise alone is no request: it gets a start that lets it into each part of the reader.
BEGINNINGS = [
    b"",
    b"GET /",
    b"GET / HTTP/1.1\r\nHost: ",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with some bytes replaced, removed or put in."""
    data = bytearray(draw(requests()))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data) - 1))
        end = place + draw(st.integers(0, 2))
        data[place:end] = draw(st.sampled_from(DAMAGE))
        data = data or bytearray(b"x")
    return bytes(data)


def cut(data: bytes, places: set[int]) -> list[bytes]:
    """The bytes in pieces."""
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_the_oracle_reads_the_wire_cases_alike(kind: str) -> None:
    assert failing_cases(wire_cases(kind), lambda case: check(case.data, [case.data])) == {}


@reproducible
@given(st.lists(damaged(), min_size=1, max_size=2).map(b"".join), st.sets(st.integers(1, 200), max_size=4))
def test_damage_is_judged_alike_however_cut_and_by_the_oracle(data: bytes, places: set[int]) -> None:
    check(data, cut(data, places))


@settings(reproducible, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=60), st.sampled_from(BEGINNINGS), st.sets(st.integers(1, 200), max_size=4))
def test_noise_behind_a_beginning(noise: bytes, beginning: bytes, places: set[int]) -> None:
    check(beginning + noise, cut(beginning + noise, places))


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
        _, _, rest_of_line = line.translate(bytes(range(128)) + b"x" * 128).partition(b" ")
        # Which methods and tabs httptools takes depends on its version.
        shown = b"POST " + rest_of_line + b"\r\n" + rest.replace(b"\t", b" ")
        parser = httptools.HttpRequestParser(witness)
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(shown)
        assert witness.headers == [(name, value.replace(b"\t", b" ")) for name, value in head.headers]
        assert len(witness.url) == len(head.target)
        assert line.partition(b" ")[0].decode() == head.method


def test_nothing_secret_is_remembered() -> None:
    head = (
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie: session=0123\r\nAuthorization: Basic MDEyMw==\r\n"
        b"Proxy-Authorization: Basic MDEyNA==\r\nX-Plain: remembered\r\n\r\n"
    )
    parse_head(head, LIMITS)
    HeadReader(LIMITS).feed(head)
    assert b"X-Plain: remembered" in http1._known_fields
    kept = b"\n".join([*http1._known_fields, *http1._seen_heads])
    assert b"session=0123" not in kept
    assert b"MDEyM" not in kept


def test_the_quick_way_has_each_value_in_its_field() -> None:
    # It fills the tuple by position: a field that is moved or added has to be moved or added there.
    data = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
    found = http1._quick_head(data, LIMITS)
    assert found is not None
    assert found.variables["HTTP_HOST"] == "a"
    assert found == RequestHead(
        method="GET", target=b"/a?b", version="1.1", raw=data, variables=found.variables, content_length=None,
        chunked=False, keep_alive=True, expect_continue=False, upgrade=False, body_expected=False, forwarded=False,
        underscored=False,
    )
