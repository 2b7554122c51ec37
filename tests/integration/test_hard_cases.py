"""What a review proved to go wrong: two things that happen at once, each of them rare."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from integration.conftest import QUEUES, Serve
from support.http import Connection, connect
from support.load import Load
from support.server import Server, Site
from support.waiting import wait_for

PATIENCE = 15.0
BOTH_QUEUES = pytest.mark.both_queues
EPOLL = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
FAILING = '''
import appsrv.worker.connection_handler
from hello import application

real = appsrv.worker.connection_handler.parse_head


def parse_head(data, limits):
    if b"/out-of-memory" in data:
        raise MemoryError("as under a memory limit")
    return real(data, limits)


appsrv.worker.connection_handler.parse_head = parse_head
'''


@pytest.fixture(autouse=True)
def release_all(serve: Serve, site: Site) -> Iterator[None]:
    """A test that fails leaves no request behind that keeps the server from stopping."""
    yield
    for begun in site.directory.glob("*.begun"):
        begun.with_suffix(".release").touch()
    site.write("go", "")


def hold(server: Server, name: str, connection: Connection | None = None) -> tuple[Connection, int]:
    """A request that lasts until `release`: its connection, and the pid of the worker that has it."""
    connection = connection or server.keep_alive()
    connection.request("GET", f"/hold?name={name}")
    return connection, written_pid(server.site.directory / f"{name}.begun")


def release(server: Server, *names: str) -> None:
    for name in names:
        server.site.write(f"{name}.release", "")


def written_pid(path: Path) -> int:
    wait_for(path.exists, str(path))
    return int(path.read_text())


def answer(connection: Connection) -> int:
    """The status of the whole answer to what was requested."""
    response = connection.getresponse()
    response.read()
    return response.status


def parked(server: Server) -> Connection:
    """A connection that has had an answer and waits for its next request."""
    connection = server.keep_alive()
    assert connection.exchange("GET", "/").status == 200
    return connection


def begin_stop(server: Server, idle: Connection) -> None:
    """SIGTERM; returns when the server has begun to stop, which the end of an idle connection tells."""
    server.child.send_signal(signal.SIGTERM)
    wait_end(idle)


def wait_end(connection: Connection) -> None:
    assert connection.sock is not None
    connection.sock.settimeout(PATIENCE)
    assert connection.sock.recv(1) == b""
    connection.close()


def ask_for_restart(server: Server) -> Connection:
    admin = Connection(server.admin_socket())
    admin.request("POST", "/restart", json.dumps({"prefix": ""}))
    return admin


# -- pipelining


def read_to_end(sock: socket.socket) -> bytes:
    sock.settimeout(PATIENCE)
    pieces = []
    while data := sock.recv(1 << 20):
        pieces.append(data)
    return b"".join(pieces)


@BOTH_QUEUES
def test_a_request_behind_a_response_that_does_not_fit_is_not_cut_in_two(serve: Serve) -> None:
    """It is dropped whole, and the connection ends: its body is never read as a request."""
    server = serve("hard", "--max-pool-size", "1")
    post = b"POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    with server.raw() as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" + post)
        client.recv(1, socket.MSG_PEEK)
        client.sendall(SMUGGLED)
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) == 20 << 20
    assert (server.site.directory / "asked").read_text().split() == ["/big"]


# -- stopping


@BOTH_QUEUES
def test_requests_that_came_just_before_the_stop_are_answered(serve: Serve) -> None:
    server = serve("hard", "--max-pool-size", "1")
    idle = parked(server)
    held, _ = hold(server, "a")
    waiting = [server.keep_alive() for _ in range(4)]
    for connection in waiting:
        connection.request("GET", "/")
    wait_for(lambda: server.status()["server"]["connections"] == 6, "six connections")
    begin_stop(server, idle)
    release(server, "a")
    assert [answer(connection) for connection in (held, *waiting)] == [200] * 5
    for connection in (held, *waiting):
        connection.close()
    assert server.wait_exit() == 0


@BOTH_QUEUES
def test_requests_on_parked_connections_are_answered_at_the_stop(serve: Serve) -> None:
    server = serve("hard", "--max-pool-size", "1")
    idle, kept = parked(server), parked(server)
    held, _ = hold(server, "a")
    kept.request("GET", "/")
    wait_for(lambda: server.group()["queue"] == 1, "a request in the queue")
    begin_stop(server, idle)
    release(server, "a")
    assert [answer(connection) for connection in (held, kept)] == [200] * 2
    held.close()
    kept.close()
    assert server.wait_exit() == 0


@BOTH_QUEUES
def test_a_connection_answered_during_the_stop_is_closed_at_once(serve: Serve) -> None:
    """Nobody would take its next request: the client is not to wait for the slowest of the others."""
    server = serve("hard", "--max-pool-size", "2", "--min-instances", "2")
    server.wait_workers(2)
    idle = parked(server)
    slow, _ = hold(server, "slow")
    quick, _ = hold(server, "quick")
    begin_stop(server, idle)
    release(server, "quick")
    assert answer(quick) == 200
    if quick.sock is not None:
        wait_end(quick)
    release(server, "slow")
    assert answer(slow) == 200
    slow.close()
    assert server.wait_exit() == 0


def test_a_server_that_hangs_does_not_keep_the_instance_from_stopping(serve: Serve) -> None:
    server = serve("hard", "--stop-timeout", "0.2")
    stopped = server.pid_of("appsrv server")
    os.kill(stopped, signal.SIGSTOP)
    server.child.send_signal(signal.SIGTERM)
    try:
        server.wait_exit()
    except subprocess.TimeoutExpired:
        os.kill(stopped, signal.SIGCONT)
        raise


# -- the death of the server process


@BOTH_QUEUES
def test_workers_of_a_killed_server_end_though_clients_keep_them_busy(serve: Serve) -> None:
    server = serve("hard", "--max-pool-size", "2", "--min-instances", "2")
    old = server.wait_workers(2)
    with Load(server.address, 6, pause=0) as load:
        wait_for(lambda: load.served > 300 and {int(text) for text in load.answers} == old, "load on both workers")
        os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in old), "the end of the old workers", PATIENCE)
        # The first may still hold answers of the old ones that it has not read.
        with Load(server.address, 6) as later:
            wait_for(lambda: later.served > 100, "answers of the new workers")
    assert not old & {int(text) for text in later.answers}
    assert not old & server.wait_workers(2)


def test_a_server_killed_in_a_broken_restart_goes_on_with_what_served(serve: Serve, site: Site) -> None:
    site.write("version", "1")
    server = serve("versioned")
    site.write("version", "broken")
    admin = ask_for_restart(server)
    broken = written_pid(site.directory / "broken.booting")
    old = server.pid_of("appsrv server")
    os.kill(old, signal.SIGKILL)
    admin.close()
    wait_for(lambda: "appsrv server" in {**server.titles(), old: ""}.values(), "a new server process")
    site.write("go", "")
    wait_for(lambda: not psutil.pid_exists(broken), "the end of the broken generation")
    server.wait_ready(PATIENCE)
    assert server.get("/").text == "1"


def test_a_second_restart_loads_the_code_as_it_is_when_it_is_asked_for(serve: Serve, site: Site) -> None:
    site.write("version", "1")
    server = serve("versioned")
    site.write("version", "2")
    first = ask_for_restart(server)
    written_pid(site.directory / "2.booting")
    site.write("version", "3")
    second = ask_for_restart(server)
    # Whoever connects later is heard later: now both are known.
    server.status()
    site.write("go", "")
    for admin in (first, second):
        assert answer(admin) == 200
        admin.close()
    assert server.get("/").text == "3"


# -- failures in the middle


@EPOLL
@pytest.mark.parametrize("path", ["/die", "/cut"])
def test_a_cut_response_looks_cut_though_another_worker_holds_the_connection(serve: Serve, path: str) -> None:
    """An end without a length (HTTP/1.0) would look like a whole body; only a reset tells."""
    server = serve("hard", "--max-pool-size", "2", "--min-instances", "2", "--ready-queue", "epoll")
    server.wait_workers(2)
    with connect(server.address, PATIENCE) as client:
        one, first = hold(server, "one")
        assert pid_that_answers(client) != first
        two, second = hold(server, "two")
        release(server, "one")
        assert answer(one) == 200
        assert pid_that_answers(client) == first != second
        # Both hold the connection now, and the second is busy.
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
    release(server, "two")
    assert answer(two) == 200
    one.close()
    two.close()


def pid_that_answers(client: socket.socket) -> int:
    client.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    received = b""
    while b"\r\n\r\n" not in received or received.endswith(b"\r\n\r\n"):
        received += client.recv(65536)
    return int(received.partition(b"\r\n\r\n")[2])


@BOTH_QUEUES
def test_a_failure_of_the_worker_itself_is_answered(serve: Serve, site: Site) -> None:
    """On a new connection and on one that is kept."""
    site.add_app("hello")
    site.write("failing.py", FAILING)
    server = serve("failing:application", "--max-pool-size", "1")
    for connection in (server.keep_alive(), parked(server)):
        assert connection.sock is not None
        connection.sock.settimeout(PATIENCE)
        assert connection.exchange("GET", "/out-of-memory").status == 502
        connection.close()
    assert server.get("/").status == 200


@pytest.mark.parametrize(
    ("options", "ready_queue"),
    [(["--threads", "4"], QUEUES[-1]), (["--access-log", "-"], QUEUES[0])],
    indirect=["ready_queue"],
    ids=["threads", "logged"],
)
def test_a_timeout_for_all_new_sockets_is_the_applications_own(serve: Serve, options: list[str]) -> None:
    server = serve("hurried", "--max-pool-size", "1", *options)
    with closing(server.raw()) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_for(lambda: server.workers()[0]["uptime"] > 1.0, "a worker that has waited longer than the timeout")
        client.settimeout(20)
        got = 0
        while data := client.recv(1 << 20):
            got += len(data)
    assert got > 20 << 20
    (worker,) = server.workers()
    assert server.get("/").text == str(worker["pid"])
    assert "ended" not in server.log()
