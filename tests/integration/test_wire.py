"""The wire cases of tests/requests through the real server, whole and in pieces: what the application saw, what came
back, what became of the connection.

Over TCP, where the kernel may join pieces, and over a unix socket, where the server reads exactly the pieces sent.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import QUEUES, Share
from support.http import Address
from support.server import Server
from support.wire import WireCase, cuts_of, wire_cases
from support.wire_client import Answer, WireClient

pytestmark = pytest.mark.both_queues

AT_ONCE = 8
PIECES = 400
CUTS = 8
STILL_OPEN = b"GET /still-open HTTP/1.1\r\nHost: a.example\r\n\r\n"

Pieces = list[bytes]
Check = Callable[[Address, WireCase, Pieces], None]


def in_bytes(data: bytes) -> Pieces:
    """Single bytes; of long data as many pieces as it takes to be quick."""
    size = max(1, len(data) // PIECES)
    return [data[at : at + size] for at in range(0, len(data), size)]


def in_two(case: WireCase, queue: str) -> list[Pieces]:
    """Cut in two at some places, the same in every run and others for each queue.

    tests/unit/http/test_head.py cuts at every place of a short request and at a sample of a long one, by the same
    reader.
    """
    places = cuts_of(case.data)
    some = random.Random(case.name).sample(places, min(len(places), CUTS))
    return [[case.data[:cut], case.data[cut:]] for cut in some[QUEUES.index(queue) :: len(QUEUES)]]


def check_valid(address: Address, case: WireCase, pieces: Pieces) -> None:
    with WireClient(address) as client:
        client.send(pieces)
        for expected in case.expected:
            answer = client.answer()
            assert described(answer, expected) == expected
        if case.expected[-1]["keep_alive"]:
            client.send([STILL_OPEN])
            assert json.loads(client.answer().body)["environ"]["PATH_INFO"] == "/still-open"
        else:
            assert client.rest() == b""


def described(answer: Answer, expected: dict[str, Any]) -> dict[str, Any]:
    """The request as the application saw it, in the words of a wire case."""
    assert answer.status == 200, answer
    seen = json.loads(answer.body)
    environ = seen["environ"]
    return {
        "method": environ["REQUEST_METHOD"],
        "version": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
        "body": seen["body"],
        "keep_alive": not answer.closes,
        "environ": {key: environ.get(key) for key in expected["environ"]},
    }


def check_invalid(address: Address, case: WireCase, pieces: Pieces) -> None:
    with WireClient(address) as client:
        client.send(pieces, unless_refused=True)
        answer = client.answer()
        assert (answer.status, answer.closes, client.rest()) == (case.expected, True, b"")


def failures(check: Check, address: Address, work: Iterable[tuple[WireCase, Pieces]]) -> dict[str, str]:
    """What went wrong, by case; several connections at once."""

    def one(item: tuple[WireCase, Pieces]) -> tuple[str, str]:
        case, pieces = item
        try:
            check(address, case, pieces)
        except Exception as error:
            return case.name, f"{[len(piece) for piece in pieces][:10]}: {type(error).__name__}: {error}"
        return case.name, ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {name: text for name, text in pool.map(one, work) if text}


def seen(server: Server) -> list[str]:
    """The requests that the application was given."""
    path: Path = server.site.directory / "seen"
    return path.read_text(encoding="latin-1").splitlines() if path.exists() else []


@pytest.fixture(params=["tcp", "unix"])
def server(share: Share, request: pytest.FixtureRequest, sockets: Path, ready_queue: str) -> Server:
    """No request of another test is among those that it has seen."""
    where = ["--socket", str(sockets / f"{ready_queue}.sock")] if request.param == "unix" else []
    server = share("recording", "--max-pool-size", "2", *where)
    (server.site.directory / "seen").unlink(missing_ok=True)
    return server


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """A directory whose name is short: the path of a unix socket may have 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="wire-") as name:
        yield Path(name)


def ways(server: Server, cases: list[WireCase], queue: str) -> list[tuple[WireCase, Pieces]]:
    """Each case in every way that it is sent: over TCP whole and in bytes, over a unix socket in bytes and cut."""
    if isinstance(server.address, tuple):
        return [(case, pieces) for case in cases for pieces in ([case.data], in_bytes(case.data))]
    return [(case, pieces) for case in cases for pieces in [in_bytes(case.data), *in_two(case, queue)]]


def test_invalid_requests_are_answered_closed_and_never_seen(server: Server, ready_queue: str) -> None:
    work = ways(server, wire_cases("invalid"), ready_queue)
    assert failures(check_invalid, server.address, work) == {}
    assert seen(server) == []


def test_valid_requests_are_seen_once_and_as_they_are(server: Server, ready_queue: str) -> None:
    work = ways(server, wire_cases("valid"), ready_queue)
    assert failures(check_valid, server.address, work) == {}
    assert len(seen(server)) == sum(len(case.expected) + case.expected[-1]["keep_alive"] for case, _ in work)


def test_a_refusal_behind_good_requests_follows_their_answers(server: Server) -> None:
    with WireClient(server.address) as client:
        client.send([STILL_OPEN + STILL_OPEN + b"GET /bad HTTP/1.1\r\nHost: a b\r\n\r\n" + STILL_OPEN])
        assert [client.answer().status for _ in range(3)] == [200, 200, 400]
        assert client.rest() == b""
    assert seen(server) == ["GET /still-open"] * 2


def test_nothing_is_answered_behind_a_close(server: Server) -> None:
    with WireClient(server.address) as client:
        client.send([STILL_OPEN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + STILL_OPEN])
        assert client.answer().closes
        assert client.rest() == b""
    assert seen(server) == ["GET /still-open"]
