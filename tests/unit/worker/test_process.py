"""worker/process.py: what a worker takes, serves and leaves to others, and what it says to the server.

The worker runs in the test's own process. The test plays the server, with a real ready queue: it hands connections over
first and then ends the hand-off socket, which ends the worker's loop.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from appsrv import hooks
from appsrv.apps.shared_routes import RouteTable
from appsrv.errors import NotStarted
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, messages
from appsrv.ipc.channel import Channel
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.shared_epoll import AVAILABLE, SharedEpoll
from appsrv.server.frontend.parking import ClientConnection, parking
from appsrv.settings.table import Settings
from appsrv.worker import process as module
from appsrv.worker.process import Worker
from appsrv.worker.role import WorkerContext, WorkerRole, environs

GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
LISTENER = {"host": "127.0.0.1", "port": 8000, "path": None, "tls": False}
KINDS = ["portable", pytest.param("epoll", marks=pytest.mark.skipif(not AVAILABLE, reason="epoll is Linux's"))]
READY = messages.Ready(os.getpid())


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with its path."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


class World:
    """The server's side of one worker."""

    def __init__(self, kind: str) -> None:
        self.board = Scoreboard.create(1, 2)
        self.slot = self.board.slot(0)
        self.parking = parking(kind, self.board)
        self.parking.workers = 1
        ours, self._theirs = channels.pair()
        ours.setblocking(False)
        self.channel = Channel(ours)
        self.clients: list[socket.socket] = []
        self.connections: list[ClientConnection] = []
        self.workers: list[Worker] = []

    def context(self, routes: RouteTable | None = None) -> WorkerContext:
        """What a preloader has been given, under descriptors of its own."""
        hand_off, board, idle = (os.dup(fd) for fd in self.parking.fds_for_workers())
        return WorkerContext(
            server=1, hand_off=socket.socket(fileno=hand_off), board=Scoreboard(board, 1, 2),
            idle=SharedEpoll(idle) if self.parking.kind == "epoll" else idle, routes=routes,
        )

    def worker(
        self, app: Callable[..., Any] = application, *, check: bool = False, routes: Any = None, first: bool = True,
        changes: Channel | None = None, role: dict[str, Any] | None = None, **settings: Any,
    ) -> Worker:
        """One that serves this application."""
        parts: dict[str, Any] = {"name": "shop", "listeners": [LISTENER], "development": False, **(role or {})}
        made = WorkerRole(application=app, settings=Settings(**settings), **parts)
        self.given = self.context(routes)
        worker = Worker(made, self.given, Channel(self._theirs), 0, first=first, check=check, changes=changes)
        self.workers.append(worker)
        return worker

    def push(self, data: bytes) -> socket.socket:
        """A client that has sent this, and that waits for a worker."""
        ours, client = socket.socketpair()
        ours.setblocking(False)
        client.settimeout(5)
        client.send(data)
        self.clients.append(client)
        connection = ClientConnection(len(self.clients), ours, "192.0.2.1", 4711, 0)
        self.connections.append(connection)
        self.parking.push(connection)
        return client

    def end(self) -> None:
        """Nothing more is handed over: the worker's loop ends when it has taken all there is."""
        self.parking.ours.shutdown(socket.SHUT_RDWR)

    def said(self) -> list[Message]:
        """All that the worker has said."""
        found = []
        for msg, fds in self.channel.waiting():
            channels.close_all(fds)
            found.append(msg)
        return found

    def close(self) -> None:
        for worker in self.workers:
            # What ends with a worker's process otherwise.
            worker.close_in_child()
        for sock in (*self.clients, *(connection.sock for connection in self.connections), self._theirs):
            sock.close()
        self.channel.close()
        self.parking.close()


@pytest.fixture(autouse=True)
def _no_title(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "set_title", lambda _: None)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, _no_title: None) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.close()


@pytest.fixture
def portable(_no_title: None) -> Iterator[World]:
    made = World("portable")
    yield made
    made.close()


# -- the loop ---------------------------------------------------------------------------------------------------------


def test_what_waits_is_served_and_the_server_told_of_it(world: World) -> None:
    worker = world.worker()
    one, two = world.push(GET % b"one"), world.push(GET % b"two")
    world.end()
    assert worker.serve()
    assert (one.recv(1000)[-4:], two.recv(1000)[-4:]) == (b"/one", b"/two")
    assert world.said() == [READY, connection_messages.Holding(1), connection_messages.Holding(2)]
    assert (world.slot.taken, world.slot.brief()[0][2]) == (2, 2)


def test_a_request_that_is_incomplete_is_given_back(world: World) -> None:
    worker = world.worker()
    begun = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"
    world.push(begun)
    world.end()
    worker.serve()
    assert world.said()[1:] == [connection_messages.GivenBack(1, begun)]


def test_without_keep_alive_the_server_is_told_of_each_end(world: World) -> None:
    worker = world.worker(keepalive_timeout=0.0)
    client = world.push(GET % b"one")
    world.end()
    worker.serve()
    assert b"connection: close" in client.recv(1000).lower()
    assert world.said() == [READY], "it need not know at once"
    worker.finish()
    assert world.said() == [connection_messages.ClosedAll(1, (1).to_bytes(8, "little"))]


def test_a_worker_that_is_to_retire_leaves_what_it_has_taken_to_others(portable: World) -> None:
    worker = portable.worker()
    client = portable.push(GET % b"one")
    portable.slot.retire()
    assert worker.serve()
    assert portable.said() == [READY, connection_messages.Holding(1)]
    released = os.read(portable.parking._released, 100)  # type: ignore[attr-defined]
    assert list(connection_messages.RELEASED.iter_unpack(released)) == [(1,)], "it is as idle as before"
    client.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_but_not_a_request_that_the_slow_lane_has_read(portable: World) -> None:
    worker = portable.worker()
    client = portable.push(b"")
    (item,) = portable.parking.take_back()
    item.discard()
    portable.parking.push(portable.connections[0], 0, GET % b"one")
    portable.slot.retire()
    worker.serve()
    assert client.recv(1000).endswith(b"/one"), "no other worker could read it again"


def test_after_sigterm_nothing_more_is_taken(world: World) -> None:
    worker = world.worker()
    world.push(GET % b"one")
    worker.retire(signal.SIGTERM, None)
    assert worker.serve()
    assert (world.said(), world.slot.taken) == ([READY], 0)


def test_without_the_server_a_worker_ends(world: World) -> None:
    worker = world.worker()
    world.channel.close()
    assert worker.serve(), "what has been taken before is finished in order"


def test_several_threads_serve_at_the_same_time(world: World) -> None:
    second_served = threading.Event()

    def waits(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            assert second_served.wait(10)
        else:
            second_served.set()
            world.slot.retire()
        return application(environ, start_response)

    # In development: a worker then looks ten times as often whether it is to end.
    worker = world.worker(waits, threads=2, role={"development": True})
    slow, fast = world.push(GET % b"slow"), world.push(GET % b"fast")
    assert worker.serve()
    assert (fast.recv(1000)[-5:], slow.recv(1000)[-5:]) == (b"/fast", b"/slow")


def test_a_request_for_another_application_is_given_back(world: World) -> None:
    find = {"/one": "shop", "/two": "blog"}
    routes: Any = SimpleNamespace(routes=lambda: SimpleNamespace(find=lambda _host, path: find[path]), fd=os.dup(0))
    worker = world.worker(routes=routes)
    world.push(GET % b"one" + GET % b"two")
    world.end()
    worker.serve()
    assert world.said()[-1] == connection_messages.GivenBack(1, GET % b"two")


def test_removed_fields_are_reported_unless_the_proxy_gave_no_address(portable: World) -> None:
    worker = portable.worker()
    portable.push(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n")
    portable.end()
    worker.serve()
    (reported,) = [msg for msg in portable.said() if isinstance(msg, messages.FieldsRemoved)]
    assert (reported.address, reported.names) == ("192.0.2.1", ["X-Forwarded-For"])


# -- before it is ready -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("healthy", [True, False])
def test_a_worker_that_has_to_prove_itself_asks_the_application_first(portable: World, healthy: bool) -> None:
    asked: list[tuple[str, str]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked.append((environ["PATH_INFO"], environ["HTTP_HOST"]))
        start_response("200 OK" if healthy else "500 Internal Server Error", [])
        return [b""]

    worker = portable.worker(app, check=True, health_path="/health", health_host="shop.example")
    portable.end()
    assert worker.serve() is healthy
    assert asked == [("/health", "shop.example")]
    unhealthy = messages.Unhealthy("the health check GET /health was answered with 500")
    assert portable.said() == [READY if healthy else unhealthy]


class Upstream:
    """The process of an application in another language, which is played."""

    def __init__(self, error: NotStarted | None = None, *, wanted: bool = True) -> None:
        self.relays = SimpleNamespace()
        self.calls: list[str] = []
        self.error = error
        self.wanted = wanted

    def start(self, unwanted: Callable[[], bool], ended: Callable[[], None]) -> bool:
        self.calls.append("start, unwanted" if unwanted() else "start")
        if self.error is not None:
            raise self.error
        ended()
        return self.wanted

    def retire(self) -> None:
        self.calls.append("retire")

    def stop(self) -> None:
        self.calls.append("stop")

    def end_worker_like_it(self) -> None:
        self.calls.append("end like it")


def test_the_worker_is_ready_when_the_process_behind_it_is(portable: World) -> None:
    upstream = Upstream()
    worker = portable.worker(role={"upstream": upstream})
    portable.end()
    assert worker.serve()
    assert (upstream.calls, portable.said()) == (["start"], [messages.UpstreamEnded(), READY])


def test_a_worker_that_is_unwanted_meanwhile_is_never_ready(portable: World) -> None:
    upstream = Upstream(wanted=False)
    worker = portable.worker(role={"upstream": upstream})
    portable.slot.retire()
    assert not worker.serve()
    assert (upstream.calls, portable.said()) == (["start, unwanted"], [messages.UpstreamEnded()])


@pytest.mark.parametrize("ended", [True, False])
def test_the_server_is_told_why_the_process_behind_the_worker_does_not_start(
    portable: World, ended: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = Upstream(NotStarted("it takes no connections", ended=ended))
    worker = portable.worker(role={"upstream": upstream})
    with pytest.raises(SystemExit) as ending:
        worker.serve()
    assert ending.value.code == NotStarted.exit_code
    assert portable.said() == [messages.StartFailed("it takes no connections", ended)]
    assert upstream.calls == ["start", "end like it"][: 1 + ended]


# -- the end ----------------------------------------------------------------------------------------------------------


def test_exit_functions_run_once(portable: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(hooks, "_worker_exit", [lambda: ran.append("worker_exit")])
    worker = portable.worker()
    worker.finish()
    worker.finish()
    assert ran == ["worker_exit"], "though both the loop and the end of a stream may come to it"


def test_a_child_of_the_application_has_nothing_that_leads_to_the_server(world: World) -> None:
    worker = world.worker()
    client = world.push(GET % b"one")
    world.end()
    worker.serve()
    idle = world.given.idle
    fds = [world.given.hand_off.fileno(), world.given.board.fd, idle.fd if isinstance(idle, SharedEpoll) else idle]
    assert world.said()[0] == READY
    world.workers.remove(worker)
    worker.close_in_child()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert world._theirs.fileno() == -1
    world.connections[0].sock.close()
    client.recv(1000)
    assert client.recv(1000) == b"", "the child holds the connection no more"


# -- files that change (development) ----------------------------------------------------------------------------------


class Watch:
    """An integration that sees one file of each kind change."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def __call__(self, code_changed: Callable[[list[str]], None], files_changed: Callable[[list[str]], None]) -> None:
        code_changed(["views.py"])
        files_changed(["page.html"])

    def forget(self, paths: list[str]) -> None:
        self.forgotten += paths


def test_the_first_worker_reports_changed_files(portable: World) -> None:
    worker = portable.worker()
    worker.watch_files(Watch())
    assert portable.said() == [messages.CodeChanged(["views.py"]), messages.FilesChanged(["page.html"])]
    portable.channel.close()
    worker.watch_files(Watch())


def test_other_workers_forget_what_they_remember_of_them(portable: World) -> None:
    ours, theirs = channels.pair()
    worker = portable.worker(first=False, changes=Channel(theirs))
    server, watch = Channel(ours), Watch()
    server.send(messages.FilesChanged(["page.html"]))
    server.send(messages.FilesChanged(["base.html"]))
    server.close()
    worker.receive_file_changes(watch)
    assert watch.forgotten == ["page.html", "base.html"]
    theirs.close()


# -- what the application is told of its server -----------------------------------------------------------------------


def test_each_listener_has_an_environ_of_its_own() -> None:
    on_socket = {"host": None, "port": None, "path": "/run/shop.sock", "tls": False}
    secure = {**LISTENER, "port": 8443, "tls": True}
    settings = Settings(threads=4, max_pool_size=1, base_uri="/shop")
    role = WorkerRole("shop", application, settings, [LISTENER, on_socket, secure], development=False)
    plain, unix, tls = environs(role)
    assert (plain["SERVER_NAME"], plain["SERVER_PORT"], plain["wsgi.url_scheme"]) == ("127.0.0.1", "8000", "http")
    assert (tls["SERVER_PORT"], tls["wsgi.url_scheme"]) == ("8443", "https")
    assert "SERVER_NAME" not in unix, "the Host field of each request names the server"
    assert {(e["wsgi.multithread"], e["wsgi.multiprocess"], e["SCRIPT_NAME"]) for e in (plain, unix, tls)} == {
        (True, False, "/shop")
    }
