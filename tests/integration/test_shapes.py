"""What applications answer, right and wrong, through the real server; and that the connection is in step afterwards.

Each response is followed by a second request on the same connection, or by its end where the response is not whole.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import NamedTuple

import pytest

from integration.conftest import Share
from support.server import Server
from support.waiting import wait_for
from support.wire_client import Answer, WireClient

pytestmark = pytest.mark.both_queues

SMALL, LARGE = bytes(range(100)), bytes(range(256)) * 4096
PID = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ORDINARY = {"content-type", "content-length", "transfer-encoding", "date", "x-a"}
ENDINGS = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError")
HOPS = ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")


class Shape(NamedTuple):
    """A response: its status, its body (None: any), the length that GET announces (None: chunks)."""

    status: int
    body: bytes | None
    length: int | None


# What PEP 3333 allows. A file behind the validator is an iterator like any other: no length is known.
RIGHT = {
    "list": Shape(200, b"one two", 7),
    "list-of-one": Shape(200, b"one", 3),
    "tuple": Shape(200, b"one two", 7),
    "nothing": Shape(200, b"", 0),
    "generator": Shape(200, b"one two", None),
    "iterator": Shape(200, b"one two", None),
    "iterator-with-length": Shape(200, b"one two", 7),
    "iterator-of-nothing": Shape(200, b"", 0),
    "write": Shape(200, b"one two three", None),
    "exc-info": Shape(503, b"sorry", 5),
    "204": Shape(204, b"", None),
    "304": Shape(304, b"", None),
    "file-small": Shape(200, SMALL, 100),
    "file-small-offset": Shape(200, SMALL[10:], 90),
    "file-small-length": Shape(200, SMALL[10:30], 20),
    "file-large": Shape(200, LARGE, len(LARGE)),
    "file-large-offset": Shape(200, LARGE[100_000:], len(LARGE) - 100_000),
    "file-large-length": Shape(200, LARGE[100_000:300_000], 200_000),
    "file-at-its-end": Shape(200, b"", 0),
}
# Answered, logged, and the connection goes on.
WRONG = {
    **dict.fromkeys(("short", "short-nothing", "short-file", "length-twice", "length-signed", "length-list"), 500),
    **dict.fromkeys(("inject-value", "inject-bare-cr", "inject-bare-lf", "inject-name"), 500),
    **dict.fromkeys(("inject-status", "status-interim", "not-bytes", "no-body", "no-start"), 500),
    **dict.fromkeys((f"raise-{name}" for name in ENDINGS), 500),
    **dict.fromkeys((f"raise-first-{name}" for name in ENDINGS), 500),
    **dict.fromkeys(("long", "long-iterator", "write-in-close"), 200),
    **dict.fromkeys((f"raise-in-close-{name}" for name in ENDINGS), 200),
}
BODIES = {"long": b"exactly", "long-iterator": b"exactly", "write-in-close": b"whole"}
# Not whole, so the connection is reset.
CUT = ("short-iterator", "exc-info-late", *(f"raise-midway-{name}" for name in ENDINGS))


@pytest.fixture
def server(share: Share) -> Server:
    server = share("shapes", "--max-pool-size", "1")
    for name, content in (("small.bin", SMALL), ("large.bin", LARGE)):
        if not (file := server.site.directory / name).exists():
            file.write_bytes(content)
    return server


def request(target: str, method: str = "GET", version: str = "1.1", fields: str = "", body: bytes = b"") -> bytes:
    return f"{method} /{target} HTTP/{version}\r\nHost: a\r\n{fields}\r\n".encode() + body


def pid_of(client: WireClient) -> bytes:
    """The pid of the only worker, asked on the same connection."""
    client.send([PID])
    answer = client.answer()
    assert (answer.status, answer.closes) == (200, False)
    return answer.body


def shape_of(answer: Answer) -> Shape:
    size = answer.fields.get("content-length")
    return Shape(answer.status, answer.body, None if size is None else int(size))


def test_right_shapes_as_they_are_and_validated(server: Server) -> None:
    with WireClient(server.address) as client:
        pid = pid_of(client)
        for name, shape in RIGHT.items():
            client.send([request(f"plain/{name}")])
            answer = client.answer()
            assert shape_of(answer) == shape, name
            assert "date" in answer.fields
            client.send([request(f"validated/{name}")])
            assert shape_of(client.answer())[:2] == shape[:2], f"{name}, validated"
            assert pid_of(client) == pid, name
    assert "AssertionError" not in server.log()


def test_right_shapes_to_head_and_http_1_0(server: Server) -> None:
    with WireClient(server.address) as client:
        for kind in ("plain", "validated"):
            for name, shape in RIGHT.items():
                client.send([request(f"{kind}/{name}", "HEAD") + PID])
                answer = client.answer(bodiless=True)
                assert (answer.status, "transfer-encoding" in answer.fields) == (shape.status, False), name
                assert client.answer().body.isdigit(), f"{kind}/{name}"
    for name, shape in RIGHT.items():
        with WireClient(server.address) as client:
            client.send([request(f"plain/{name}", version="1.0", fields="Connection: keep-alive\r\n")])
            answer = client.answer()
            assert (shape_of(answer), "transfer-encoding" in answer.fields) == (shape, False), name
            if answer.closes:
                assert shape.length is None
                assert client.rest() == b""
            else:
                assert answer.fields["connection"] == "keep-alive"
                assert pid_of(client).isdigit()


def test_wrong_shapes_are_answered_logged_and_leave_the_connection_in_step(server: Server) -> None:
    errors = 0
    with WireClient(server.address) as client:
        pid = pid_of(client)
        for name, status in WRONG.items():
            client.send([request(f"wrong/plain/{name}")])
            answer = client.answer()
            assert (answer.status, answer.closes) == (status, False), name
            assert "set-cookie" not in answer.fields
            if status == 200:
                assert answer.body == BODIES.get(name, b"whole"), name
            assert pid_of(client) == pid, name
            errors += 1
    logged = re.compile(r"Error [0-9a-f]+-[0-9]+ in GET /wrong/")
    wait_for(lambda: len(logged.findall(server.log())) == errors, "an error for each of them")


def test_what_other_servers_take_is_taken_and_the_connection_is_the_servers(server: Server) -> None:
    with WireClient(server.address) as client:
        pid = pid_of(client)
        for name in (*(f"hop-{hop}" for hop in HOPS), "hop-stream", "length-spaces", "length-repeated", "list-header"):
            for _ in range(2):
                client.send([request(f"taken/plain/{name}")])
                answer = client.answer()
                assert (answer.status, answer.body in (b"x", b"one"), answer.closes) == (200, True, False), name
                assert answer.fields.keys() <= ORDINARY, name
                assert answer.fields.get("x-a", "b") == "b"
                assert pid_of(client) == pid, name
        client.send([request("taken/plain/426")])
        answer = client.answer()
        assert (answer.status, answer.fields["upgrade"], answer.fields["connection"]) == (426, "echo", "upgrade")
        assert pid_of(client) == pid
    for name in ("close", "close-stream"):
        with WireClient(server.address) as client:
            client.send([request(f"taken/plain/{name}")])
            answer = client.answer()
            assert (answer.body, answer.fields["connection"], client.rest()) == (b"one", "close", b""), name
    for hop in HOPS:
        wait_for(lambda hop=hop: f"/taken/plain/hop-{hop} is left out" in server.log().lower(), f"a line about {hop}")  # type: ignore[misc]
    assert len(re.findall(r"appsrv: \S+ in the response to", server.log())) == len(HOPS)
    assert "shapes.py:" in server.log()
    assert not re.search(r"Error \S+ in GET /taken/", server.log())


def test_what_is_not_whole_ends_with_a_reset(server: Server) -> None:
    with WireClient(server.address) as client:
        pid = pid_of(client)
    for name in CUT:
        for version in ("1.0", "1.1"):
            with WireClient(server.address) as client:
                client.send([request(f"plain/{name}", version=version)])
                with pytest.raises((ConnectionResetError, EOFError)) as caught:
                    client.answer()
                assert version == "1.1" or caught.type is ConnectionResetError, "an end would look like the whole"
    with WireClient(server.address) as client:
        assert pid_of(client) == pid


def test_no_response_gets_into_another(server: Server) -> None:
    """An application that keeps `write` cannot use it any more once its response has ended."""
    with WireClient(server.address) as client, WireClient(server.address) as other:
        client.send([request("plain/keep-write")])
        assert client.answer().body == b"kept"
        other.send([request("plain/use-kept-write")])
        assert other.answer().status == 500
        assert pid_of(other) == pid_of(client)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here")
def test_a_file_that_does_not_know_its_size_is_read(server: Server) -> None:
    with WireClient(server.address) as client:
        pid = pid_of(client)
        client.send([request("plain/file-of-the-kernel")])
        assert b"Pid:\t" + pid in client.answer().body
        assert pid_of(client) == pid


@pytest.mark.parametrize("fields", ["", "Expect: 100-continue\r\n"])
def test_a_body_that_the_application_never_reads(server: Server, fields: str) -> None:
    for size in (3, 3 << 20):
        with WireClient(server.address) as client:
            client.send([request("plain/never-read", "POST", fields=f"{fields}Content-Length: {size}\r\n")])
            if fields:
                assert client.interim() == 100
            client.send([PID[:1] * size, PID])
            assert client.answer().body == b"not read"
            assert client.answer().body.isdigit()


def closings(server: Server) -> int:
    mark = server.site.directory / "closed"
    return len(mark.read_text().splitlines()) if mark.exists() else 0


def test_close_is_called_once_also_when_the_client_leaves_in_mid_body(server: Server) -> None:
    shapes = [*(name for name in (*WRONG, *CUT) if name.startswith("raise-") and name.count("-") > 1), "short-iterator"]
    shapes += ["iterator", "iterator-with-length", "iterator-of-nothing", "long-iterator", "write-in-close"]
    before = closings(server)
    for count, name in enumerate(shapes, before + 1):
        with WireClient(server.address) as client:
            client.send([request(f"plain/{name}", fields="Connection: close\r\n")])
            with contextlib.suppress(ConnectionResetError):
                client.rest()
        with WireClient(server.address) as client:
            assert pid_of(client).isdigit()
        assert closings(server) == count, name
    with WireClient(server.address) as client:
        client.send([request("plain/endless")])
        client.read(1 << 20)
    all_closings = before + len(shapes) + 1
    wait_for(lambda: closings(server) == all_closings, "close() after the client has left")
    with WireClient(server.address) as client:
        assert pid_of(client).isdigit()
    assert closings(server) == all_closings
