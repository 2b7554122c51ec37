"""The WSGI callable in the place of an application in another language, with socket pairs for its process."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from appsrv.errors import UpstreamError
from appsrv.generic.connection import UpstreamConnection
from appsrv.generic.connection_pool import IdleConnection, UpstreamAddress, UpstreamConnections
from appsrv.generic.proxy_app import GenericApplication
from appsrv.wsgi.environ import build_environ, environ_base
from appsrv.wsgi.upstream_hooks import KEY, Proxied
from support.served import head_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-oDD: 1\r\nConnection: mine\r\nMine: 2\r\n\r\nok"


class Process:
    """Answers the n-th connection as the n-th script says: (what it sends, whether it then closes)."""

    command = "node server.js"

    def __init__(self, *scripts: tuple[bytes, bool]) -> None:
        self.scripts = list(scripts)
        self.heard: list[bytes] = []
        self.sockets: list[Any] = []
        self.connections = UpstreamConnections(self.place())

    def place(self) -> UpstreamAddress:
        process = self

        class Scripted(UpstreamAddress):
            def connect(self, timeout: float = 0.0) -> Any:
                ours, theirs = socket.socketpair()
                gevent.spawn(process.play, theirs, *process.scripts.pop(0))
                return ours

        return Scripted(path="/nowhere")

    def play(self, sock: Any, answer: bytes, closes: bool) -> None:
        self.sockets.append(sock)
        self.heard.append(sock.recv(10_000))
        sock.sendall(answer)
        if closes:
            sock.close()

    def close(self) -> None:
        """Give everything back."""
        self.connections.close()
        for sock in self.sockets:
            sock.close()

    def wait_for_end(self) -> None:
        """It lives."""

    def used_connection(self) -> None:
        """Keep one that was used before, at whose other end somebody closes as soon as the next request comes."""
        ours, theirs = socket.socketpair()
        connection = UpstreamConnection(ours)
        connection.used = True
        self.connections._idle.append(IdleConnection(connection, self.connections._clock()))
        gevent.spawn(self.play, theirs, b"", True)


Make = Callable[..., Process]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Process] = []

    def process(*scripts: tuple[bytes, bool]) -> Process:
        made.append(Process(*scripts))
        return made[-1]

    yield process
    for one in made:
        one.close()


def ask(process: Process, method: str = "GET", body: bytes = b"") -> tuple[str, list[tuple[str, str]], bytes]:
    head = head_of(f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n")
    base = environ_base(server_name="x", server_port=80, multithread=True, multiprocess=True, errors=io.StringIO())
    environ = build_environ(base, head, io.BytesIO(body), len(body), "10.0.0.9", "1")
    environ[KEY] = Proxied(head)
    started: list[Any] = []
    start: Callable[..., Any] = lambda status, fields: started.extend((status, fields))  # noqa: E731
    answer = GenericApplication(process)(environ, start)
    return started[0], started[1], b"".join(answer)


def test_an_answer_goes_through_without_what_was_the_connections(make: Make) -> None:
    assert ask(make((OK, False))) == ("200 OK", [("Content-Length", "2"), ("X-oDD", "1")], b"ok")


def test_a_stream_is_one(make: Make) -> None:
    status, _, body = ask(make((b"HTTP/1.1 200 OK\r\n\r\nto the end", True)))
    assert (status, body) == ("200 OK", b"to the end")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_may_come_twice_is_asked_again_when_a_kept_connection_has_ended(make: Make, method: str) -> None:
    process = make((OK, False))
    process.used_connection()
    assert ask(process, method, b"body")[2] == b"ok"
    assert process.heard[0] == process.heard[1], "all of it, the body included"


def test_what_must_not_come_twice_is_not(make: Make) -> None:
    process = make((OK, False))
    process.used_connection()
    with pytest.raises(UpstreamError, match=r"the application \(node server.js\) gave no answer"):
        ask(process, "POST", b"body")
    assert len(process.heard) == 1


def test_a_new_connection_that_ends_is_no_reason_to_ask_again(make: Make) -> None:
    process = make((b"", True), (OK, False))
    with pytest.raises(UpstreamError, match="gave no answer"):
        ask(process)


def test_nor_is_one_on_which_something_has_come(make: Make) -> None:
    process = make((OK, False))
    process.scripts.insert(0, (b"HTTP/1.1 2", True))
    with pytest.raises(UpstreamError, match=r"breaks HTTP/1\.1"):
        ask(process)
