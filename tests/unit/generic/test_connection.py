"""A connection to the process behind the proxy, with a socket pair in the place of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import h11
import pytest
from gevent import socket

from appsrv.generic.connection import BrokenResponse, ConnectionLost, UpstreamConnection
from appsrv.generic.connection_pool import UpstreamAddress, UpstreamConnections
from appsrv.generic.keepalive import DEFAULT_LIMIT_SECONDS, JUST_USED_SECONDS
from appsrv.generic.request import UpstreamRequest

GET = UpstreamRequest("GET", b"/", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0, b"", True, False)
POST = UpstreamRequest("POST", b"/", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", 5, b"", False, False)
CHUNKED = POST._replace(head=b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", length=None)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def pair() -> Iterator[tuple[UpstreamConnection, Any]]:
    ours, theirs = socket.socketpair()
    yield UpstreamConnection(ours), theirs
    ours.close()
    theirs.close()


def ask(connection: UpstreamConnection, request: UpstreamRequest = GET, body: Any = (), informed: Any = None) -> Any:
    return connection.request(request, body, (informed if informed is not None else []).append, lambda: None)


def test_one_request_after_the_other(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    for request, body in ((GET, ()), (POST, [b"he", b"llo"])):
        theirs.sendall(OK)
        assert ask(connection, request, body).status_code == 200
        assert connection.available() == (b"ok", True)
        assert theirs.recv(1000) == request.head + b"".join(body)
        assert connection.finish()
    assert connection.used


def test_a_body_as_it_comes(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    ask(connection)
    assert connection.available() == (b"ab", False)
    pieces = connection.pieces(lambda: None)
    theirs.sendall(b"1\r\nc\r\n")
    assert next(pieces) == b"c"
    assert not connection.finish(), "the response is not over"
    theirs.sendall(b"0\r\n\r\n")
    assert list(pieces) == []
    assert connection.finish()


def test_a_request_in_chunks(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    theirs.sendall(OK)
    ask(connection, CHUNKED, [b"abc", b"d"])
    connection._sender.join()
    assert theirs.recv(1000) == CHUNKED.head + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    assert connection.available() == (b"ok", True)
    assert connection.finish()


def test_a_response_before_the_request_is_whole_ends_the_connection(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(100_000)

    theirs.sendall(OK)
    assert ask(connection, CHUNKED, endless()).status_code == 200
    assert connection.available() == (b"ok", True)
    assert not connection.finish()
    connection.close()


def test_what_the_body_raises_is_raised(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, _ = pair

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise KeyError("the client")

    with pytest.raises(KeyError):
        ask(connection, CHUNKED, broken())


def test_interim_responses_are_told_and_100_is_not(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK)
    informed: list[h11.InformationalResponse] = []
    assert ask(connection, informed=informed).status_code == 200
    assert [response.status_code for response in informed] == [103]


@pytest.mark.parametrize(
    "head",
    [b"103 Early Hints\r\nLink: a\x1b[2J", b"103 Early\x07\r\nLink: a", b"101 Switching\r\nUpgrade: a\x7f"],
)
def test_interim_responses_have_no_control_characters_either(
    pair: tuple[UpstreamConnection, Any], head: bytes
) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 " + head + b"\r\n\r\n" + OK)
    informed: list[h11.InformationalResponse] = []
    with pytest.raises(BrokenResponse, match="control characters in the head of its 10"):
        ask(connection, GET._replace(upgrade=b"a"), informed=informed)
    assert informed == []


def test_100_is_waited_for(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    expecting = CHUNKED._replace(expects=True)
    informed: list[h11.InformationalResponse] = []
    asked = gevent.spawn(ask, connection, expecting, [b"abc"], informed)
    assert theirs.recv(1000) == CHUNKED.head
    gevent.sleep(0)
    theirs.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert theirs.recv(1000).startswith(b"3\r\nabc")
    assert [response.status_code for response in informed] == [100]
    theirs.sendall(OK)
    assert asked.get().status_code == 200


def test_a_refusal_in_place_of_100_leaves_the_body_alone(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair

    read: list[bytes] = []

    def body() -> Iterator[bytes]:
        read.append(b"abc")
        yield b"abc"

    theirs.sendall(OK)
    informed: list[h11.InformationalResponse] = []
    assert ask(connection, CHUNKED._replace(expects=True), body(), informed).status_code == 200
    gevent.sleep(0)
    assert connection.available() == (b"ok", True)
    assert not connection.finish()
    assert not informed
    assert not read


def test_a_switch_of_protocols(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nhello")
    response = ask(connection, GET._replace(upgrade=b"echo"))
    assert response.status_code == 101
    assert connection.trailing_data() == b"hello"


def test_what_another_protocol_says_comes_behind_the_request(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    body = [b"b" * 100_000] * 40
    size = sum(map(len, body))
    theirs.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n")
    asked = gevent.spawn(ask, connection, POST._replace(upgrade=b"echo", length=size), body)
    gevent.sleep(0.05)
    assert not asked.ready(), "the body is still on its way"
    received = b""
    while len(received) < len(POST.head) + size:
        received += theirs.recv(1 << 20)
    assert asked.get().status_code == 101
    connection.sock.sendall(b"echo")
    assert theirs.recv(100) == b"echo"


def turns_of_another(whole: Callable[[], Any]) -> int:
    """How often another greenlet has had its turn while `whole` ran."""
    turns = 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    try:
        whole()
    finally:
        greenlet.kill()
    return turns


class Torrent:
    """A socket that never has to be waited for: it takes everything, and always has more, up to an end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = 0

    def settimeout(self, _seconds: float) -> None:
        """It never comes to that."""

    def send(self, data: memoryview) -> int:
        self.sent += len(data)
        return len(data)

    def recv(self, _size: int) -> bytes:
        return self.pieces.pop(0)


def test_a_torrent_of_a_response_leaves_others_their_turns() -> None:
    connection = UpstreamConnection(Torrent(b"HTTP/1.0 200 OK\r\n\r\n", *[b"x" * 65536] * 100, b""))
    ask(connection)
    assert turns_of_another(lambda: list(connection.pieces(lambda: None))) >= 100


def test_so_do_endless_interim_responses() -> None:
    connection = UpstreamConnection(Torrent(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 100, OK))
    assert turns_of_another(lambda: ask(connection)) >= 100


def test_and_a_request_that_is_taken_as_fast_as_it_comes() -> None:
    torrent = Torrent(OK)
    connection = UpstreamConnection(torrent)
    ask(connection, POST._replace(length=100 * 65536), [b"x" * 65536] * 100)
    assert turns_of_another(lambda: connection._sender.join()) >= 99
    assert torrent.sent == len(POST.head) + 100 * 65536


def test_the_end_before_an_answer(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    theirs.close()
    with pytest.raises(ConnectionLost) as lost:
        ask(connection)
    assert lost.value.silent


def test_the_end_in_the_middle(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
    ask(connection)
    assert connection.available() == (b"ab", False)
    assert theirs.recv(1000) == GET.head
    theirs.close()
    with pytest.raises(BrokenResponse, match="ended 8 bytes short of its Content-Length"):
        list(connection.pieces(lambda: None))


def test_a_body_that_comes_in_pieces(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    for _ in range(2):
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab")
        ask(connection)
        assert connection.available() == (b"ab", False)
        pieces = connection.pieces(lambda: None)
        theirs.sendall(b"cd")
        assert next(pieces) == b"cd"
        theirs.sendall(b"ef")
        assert list(pieces) == [b"ef"]
        assert connection.finish()
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
    ask(connection)
    pieces = connection.pieces(lambda: None)
    theirs.sendall(b"bc and more")
    assert list(pieces) == [b"bc"]
    assert connection.finish()
    assert connection.stale(), "what nobody has asked for is not the next answer"


def test_what_nobody_has_asked_for_ends_the_connection(pair: tuple[UpstreamConnection, Any]) -> None:
    connection, theirs = pair
    theirs.sendall(OK + b"HTTP/1.1 200 OK\r\n")
    ask(connection)
    assert connection.available() == (b"ok", True)
    assert not connection.finish()


# -- those that are kept ----------------------------------------------------------------------------------------------


class PairedPlace(UpstreamAddress):
    """Connects to itself."""

    def __init__(self) -> None:
        super().__init__(path="/nowhere")
        self.theirs: list[Any] = []

    def connect(self, timeout: float = 0.0) -> Any:
        ours, theirs = socket.socketpair()
        self.theirs.append(theirs)
        return ours


@pytest.mark.parametrize(
    "end", [UpstreamConnections.give_back, UpstreamConnections.drop, UpstreamConnections.hand_over]
)
def test_what_a_process_has_said_before_its_end_is_read(end: Callable[..., None]) -> None:
    place = PairedPlace()
    connections = UpstreamConnections(place)
    connection = connections.take()
    draining = gevent.spawn(connections.drain, 10.0)
    gevent.sleep(0.05)
    assert not draining.ready(), "a response is being read"
    end(connections, connection)
    draining.get(timeout=5)
    connection.close()
    place.theirs[0].close()


def test_a_response_that_never_ends_is_not_waited_for() -> None:
    place, times = PairedPlace(), iter([0.0, 0.0, 0.5, 1.0])
    connections = UpstreamConnections(place, lambda: next(times))
    connection = connections.take()
    connections.drain(1.0)
    connections.drop(connection)
    place.theirs[0].close()


class Turns:
    """Requests that follow each other on the connections of one process, at times that the test sets."""

    def __init__(self) -> None:
        self.place, self.now = PairedPlace(), 100.0
        self.connections = UpstreamConnections(self.place, lambda: self.now)

    def turn(self, *, repeatable: bool = True) -> UpstreamConnection:
        connection = self.connections.take(repeatable=repeatable)
        self.place.theirs[-1].sendall(OK)
        ask(connection)
        assert connection.available()[1]
        self.connections.give_back(connection)
        return connection

    def close(self) -> None:
        self.connections.close()
        for sock in self.place.theirs:
            sock.close()


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns()
    yield turns
    turns.close()


def test_the_last_one_used_is_used_again_unless_it_has_ended_or_is_old(turns: Turns) -> None:
    first = turns.turn()
    assert turns.turn() is first
    turns.now += DEFAULT_LIMIT_SECONDS + 0.1
    second = turns.turn()
    assert second is not first
    turns.place.theirs[-1].close()
    third = turns.connections.take()
    assert third not in (first, second)
    third.close()


def test_an_idle_connection_is_not_for_a_request_that_cannot_be_repeated(turns: Turns) -> None:
    first = turns.turn()
    turns.now += JUST_USED_SECONDS / 2
    assert turns.turn(repeatable=False) is first
    turns.now += JUST_USED_SECONDS * 2
    second = turns.turn(repeatable=False)
    assert second is not first
    turns.now += JUST_USED_SECONDS * 2
    assert turns.turn() is second, "the last one used"


def test_a_process_that_closes_idle_connections_early_is_found_out(turns: Turns) -> None:
    turns.turn()
    turns.now += 1.0
    turns.connections.check()
    turns.place.theirs[-1].close()
    turns.now += 0.25
    turns.connections.check()
    second = turns.turn()
    turns.now += 0.7
    assert turns.turn() is second
    turns.now += 0.8
    assert turns.turn() is not second, "it may be about to be closed"


def test_an_announced_timeout_is_kept(turns: Turns) -> None:
    first = turns.turn()
    turns.connections.announce_timeout(2)
    turns.now += 1.4
    assert turns.turn() is first
    turns.now += 1.6
    assert turns.turn() is not first
