"""Generic applications: a worker and the process that it has started, from the first connection to the last signal.

The process is tests/generic/hostile.py, which does what it is asked for by its path; real ones are in
test_generic_servers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from integration.conftest import Launch
from support import processes
from support.certificates import make, trusting
from support.http import Address, RawAnswer, connect, exchange_bytes
from support.load import Load
from support.reports import reported
from support.server import COMMAND, Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

HOSTILE = Path(__file__).resolve().parents[1] / "generic" / "hostile.py"
PYTHON = f"{sys.executable} {HOSTILE}"


class ServeCommand(Protocol):
    def __call__(
        self, *options: str, command: str = PYTHON, environment: dict[str, str] | None = None, wait: bool = True
    ) -> Server: ...


class ShareCommand(Protocol):
    def __call__(self, *options: str) -> Server: ...


@pytest.fixture
def serve_command(site: Site, launch: Launch, ready_queue: str) -> ServeCommand:
    """`appsrv start --start-command`, ready to answer."""

    def start(
        *options: str, command: str = PYTHON, environment: dict[str, str] | None = None, wait: bool = True
    ) -> Server:
        server = launch(*argv_of(command, ready_queue, options), environment)
        return server.wait_ready() if wait else server

    return start


def argv_of(command: str, ready_queue: str, options: Sequence[str]) -> tuple[list[str], Address]:
    address = ("127.0.0.1", free_port())
    argv = [COMMAND, "start", "--start-command", command, "--port", str(address[1]), "--ready-queue", ready_queue]
    return [*argv, *options], address


@pytest.fixture
def share_command(shared_servers: SharedServers, request: pytest.FixtureRequest, ready_queue: str) -> ShareCommand:
    """One server with these options for all tests of this module that only ask."""

    def start(*options: str) -> Server:
        def begin(site: Site) -> Server:
            return Server(site, *argv_of(PYTHON, ready_queue, options))

        return reported(request, shared_servers.get((options, ready_queue), begin))

    return start


def child_of(worker: int) -> psutil.Process:
    (child,) = psutil.Process(worker).children()
    return child


def gone(*pids: int) -> Callable[[], bool]:
    return lambda: not any(processes.alive_pid(pid) for pid in pids)


def ask(server: Server, text: str) -> RawAnswer:
    """A request as it is written, with CR LF for each line end, on a connection that the answer ends."""
    return exchange_bytes(server.address, text.replace("\n", "\r\n").encode("latin-1"))


# -- the pair ---------------------------------------------------------------------------------------------------------


def test_it_is_served_and_shown(serve_command: ServeCommand, site: Site) -> None:
    server = serve_command()
    (worker,) = server.worker_pids()
    child = child_of(worker)
    assert server.get("/").text == str(child.pid)
    titles = server.titles()
    assert titles[worker] == f"appsrv worker {site.directory}"
    assert titles[child.pid] == PYTHON, "the shell has given its place to the command"
    assert os.getpgid(child.pid) == os.getpgid(worker) == worker
    group = server.group()
    assert group["app"] == PYTHON
    assert group["workers"][0]["memory"] > psutil.Process(worker).memory_info().rss / 4
    assert server.get("/environment").text.count(f"PWD={site.directory}") == 1


def test_what_the_process_finds_in_its_environment(serve_command: ServeCommand, site: Site) -> None:
    site.write(".env", "FROM_FILE=yes\n")
    server = serve_command("--environment", "staging", environment={"FROM_SHELL": "too", "PORT": "1"})
    found = dict(line.split("=", 1) for line in server.get("/environment").text.splitlines())
    assert found["FROM_FILE"] == "yes"
    assert found["FROM_SHELL"] == "too"
    assert found["NODE_ENV"] == found["RACK_ENV"] == found["APPSRV_ENV"] == "staging"
    assert 1024 < int(found["PORT"]) != server.address[1]


def test_a_unix_socket_where_the_command_mentions_one(serve_command: ServeCommand) -> None:
    server = serve_command(command=f'{PYTHON} --socket "$SOCKET"')
    found = dict(line.split("=", 1) for line in server.get("/environment").text.splitlines())
    directory = Path(found["SOCKET"]).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    assert server.stop() == 0
    assert not directory.exists()


def test_each_worker_has_its_own(serve_command: ServeCommand) -> None:
    server = serve_command("--min-instances", "2", "--max-pool-size", "3", "--max-greenlets", "1")
    server.wait_workers(2)
    until = server.site.directory / "until"
    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(server.get, f"/hold?{until}") for _ in range(3)]
        try:
            wait_for(lambda: sum(w["sessions"] for w in server.workers()) == 3, "the requests in workers")
        finally:
            until.touch()
        pids = {reply.result().text for reply in asked}
    assert len(pids) == 3, "more requests at a time make more processes"


def test_of_processes_the_least_busy_one_is_asked(serve_command: ServeCommand) -> None:
    server = serve_command("--min-instances", "2", "--max-pool-size", "2")
    server.wait_workers(2)
    until = server.site.directory / "until"
    with ThreadPoolExecutor(20) as clients:
        asked = []
        try:
            for _ in range(20):
                asked.append(clients.submit(server.get, f"/hold?{until}"))
                wait_for(lambda: sum(w["sessions"] for w in server.workers()) == len(asked), "the request in a worker")
            sessions = sorted(worker["sessions"] for worker in server.workers())
        finally:
            until.touch()
        assert sessions[0] >= 8, sessions
        assert {reply.result().status for reply in asked} == {200}


# -- what goes through ------------------------------------------------------------------------------------------------


def test_the_head_goes_through_as_it_came(serve_command: ServeCommand) -> None:
    server = serve_command("--forwarded-allow-ips", "off")
    answer = ask(
        server,
        "GET /head?q=%2F HTTP/1.1\nX-second: 2\nHost: a.example:81\nX-FIRST: 1\nx-second: 3\nCookie: a=b\nCookie: c=d\n"
        "X-Forwarded-For: 6.6.6.6\nX_Forwarded_For: 7.7.7.7\nForwarded: for=8.8.8.8\nProxy: evil\nTE: trailers\n"
        "Keep-Alive: 5\nX-Private: secret\nConnection: close, x-private\n\n",
    )
    head, _, body = answer.data.partition(b"\r\n\r\n")
    lines = body.decode().split("\r\n")
    assert lines[:7] == [
        "GET /head?q=%2F HTTP/1.1", "X-second: 2", "Host: a.example:81", "X-FIRST: 1", "x-second: 3", "Cookie: a=b",
        "Cookie: c=d",
    ]  # fmt: skip
    said = dict(line.split(": ", 1) for line in lines[7:-2])
    assert said.pop("X-Request-ID")
    assert said == {
        "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "a.example:81",
        "X-Forwarded-Port": str(server.address[1]),
    }  # fmt: skip
    fields = head.decode().split("\r\n")
    assert fields[1:4] == ["Set-Cookie: a=1", "Set-Cookie: b=2", "X-oDD-cAse: kept"]
    assert not [field for field in fields if field.lower().startswith(("keep-alive", "x-mine"))]


def test_a_trusted_proxy_is_believed(share_command: ShareCommand) -> None:
    server = share_command()
    headers = {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example"}
    lines = server.get("/head", headers).text.split("\r\n")
    assert "X-Forwarded-For: 9.9.9.9" in lines
    assert "X-Forwarded-Proto: https" in lines
    assert "Host: shop.example" in lines
    assert [line for line in lines if line.startswith("X-Forwarded-For")] == ["X-Forwarded-For: 9.9.9.9"]


def test_an_absolute_target_becomes_a_path(share_command: ShareCommand) -> None:
    server = share_command()
    answer = ask(server, "GET http://b.example/head?x HTTP/1.1\nHost: a.example\nConnection: close\n\n")
    assert b"\r\n\r\nGET /head?x HTTP/1.1\r\nHost: b.example\r\n" in answer.data


@pytest.mark.both_queues
def test_bodies_of_any_size_arrive(share_command: ShareCommand) -> None:
    server = share_command()
    for size in (0, 10, 20_000, 5_000_000):
        body = os.urandom(size)
        assert server.request("POST", "/body", body).body == body, size
        pieces = (body[at : at + 50_000] for at in range(0, size, 50_000))
        chunked = server.request("POST", "/body", pieces)
        assert chunked.body == body, size
        lines = server.request("POST", "/head", iter([body[:1000]])).text.split("\r\n")
        assert f"Content-Length: {len(body[:1000])}" in lines, "a body that is whole has a length"
        assert not [line for line in lines if line.startswith("Transfer-Encoding")]


def test_interim_responses(share_command: ShareCommand) -> None:
    server = share_command()
    answer = ask(server, "GET /hints HTTP/1.1\nHost: a\nConnection: close\n\n").data
    first, second = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", b"HTTP/1.1 102 Processing\r\n"
    assert answer.startswith(first + second)
    assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in answer
    assert ask(server, "GET /hints HTTP/1.0\n\n").data.startswith(b"HTTP/1.1 200 OK\r\n"), "HTTP/1.0 knows none"


def test_a_body_that_ends_with_its_connection(share_command: ShareCommand) -> None:
    reply = share_command().get("/old")
    assert (reply.body, reply.headers["Content-Type"]) == (b"old and whole", "text/plain")


def test_a_slow_reader_holds_nobody(serve_command: ServeCommand) -> None:
    server = serve_command("--max-greenlets", "1", "--max-pool-size", "1")
    with server.raw() as slow:
        slow.sendall(b"GET /big?30000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        slow.recv(1000)
        assert server.get("/").status == 200, "the response waits for its reader elsewhere"
        count = 0
        while data := slow.recv(1 << 20):
            count += len(data)
    assert count > 29_990_000


def test_a_reader_that_leaves_is_noticed(serve_command: ServeCommand) -> None:
    server = serve_command()
    with server.raw() as reader:
        reader.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"text/event-stream" in reader.recv(1000), "the head does not wait for the first piece"
        assert server.workers()[0]["sessions"] == 1
    server.wait_log("the reader has left")
    wait_for(lambda: server.workers()[0]["sessions"] == 0, "the end of the request")


# -- connections to the process ---------------------------------------------------------------------------------------


def test_connections_are_used_again(serve_command: ServeCommand) -> None:
    server = serve_command()
    (worker,) = server.worker_pids()
    for _ in range(20):
        assert server.get("/").status == 200
    connections = [c for c in psutil.Process(child_of(worker).pid).net_connections() if c.status == "ESTABLISHED"]
    assert len(connections) == 1


def test_a_connection_that_was_closed_meanwhile_costs_no_request(share_command: ShareCommand) -> None:
    server = share_command()
    closed = server.site.directory / "closed"

    def have_closed(count: int) -> None:
        wait_for(lambda: closed.exists() and closed.stat().st_size == count, f"the end of connection {count}")

    for number in range(1, 60, 2):
        assert server.get("/fickle").status == 200
        # What is sent into a connection while it is being closed may have been heard: only a GET is asked again.
        have_closed(number)
        assert server.request("POST", "/fickle", b"x").status == 200
        have_closed(number + 1)


def pass_time(seconds: float) -> None:
    """For what depends on how long something has been idle."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end, f"the end of {seconds} s")


def test_a_connection_that_the_process_is_about_to_close_takes_no_post(serve_command: ServeCommand) -> None:
    server = serve_command(environment={"HOSTILE": "impatient"})
    for method in ("POST", "PATCH", "GET", "POST"):
        pass_time(0.4)
        assert server.request(method, "/", b"x").status == 200, method


# -- other protocols --------------------------------------------------------------------------------------------------

ASK = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def upgraded(server: Server) -> socket.socket:
    client = server.raw()
    client.sendall(ASK)
    answer = b""
    while b"hello " not in answer:
        answer += client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ")
    return client


def test_a_connection_becomes_another_protocols(serve_command: ServeCommand) -> None:
    server = serve_command("--max-request-time", "4", "--access-log", "-")
    with upgraded(server) as client:
        for word in (b"one", b"two" * 100_000):
            client.sendall(word)
            assert receive(client, len(word)) == word
        deadline = time.monotonic() + 4.5
        while time.monotonic() < deadline:
            assert server.get("/").status == 200
        client.sendall(b"still here")
        assert receive(client, 10) == b"still here", "no limit of a request's time holds"
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 8) == b" goodbye", "half-closed, it may still speak"
        assert client.recv(1) == b""
    server.wait_log(r"GET /upgrade HTTP/1.1. 101 ")
    wait_for(lambda: server.workers()[0]["sessions"] == 0, "the end of the connection")


def test_the_same_through_tls(serve_command: ServeCommand, tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "tls")
    port = free_port()
    server = serve_command("--ssl-certificate", certificate, "--ssl-certificate-key", key, "--ssl-port", str(port))
    raw = connect(("127.0.0.1", port))
    with trusting(certificate).wrap_socket(raw, server_hostname="localhost") as client:
        client.sendall(ASK)
        assert receive(client, 12) == b"HTTP/1.1 101"
        client.sendall(b"one")
        said = b""
        while not said.endswith(b"hello one"):
            said += client.recv(1000)
    wait_for(lambda: server.workers()[0]["sessions"] == 0, "the end of the connection")


def test_what_is_not_asked_for_is_no_upgrade(share_command: ShareCommand) -> None:
    server = share_command()
    asked = server.get("/upgrade")
    assert (asked.status, asked.headers["upgrade"], asked.headers["connection"]) == (426, "echo", "upgrade")
    assert ask(server, "GET /upgrade HTTP/1.0\nConnection: upgrade\nUpgrade: echo\n\n").data[9:12] == b"426"
    h2c = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    assert server.get("/upgrade", h2c).status == 426
    assert server.get("/unasked").status == 502


def test_the_end_of_the_process_ends_them(serve_command: ServeCommand) -> None:
    server = serve_command()
    (worker,) = server.worker_pids()
    with upgraded(server) as client:
        child_of(worker).kill()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    server.wait_log(rf"worker {worker} of .* ended: killed by SIGKILL")


def test_a_restart_does_not_wait_for_them(serve_command: ServeCommand, site: Site) -> None:
    # If it did wait, neither the command nor the client would see the end of it.
    server = serve_command("--stop-timeout", "600")
    with upgraded(server) as client:
        done = site.command("restart-app", ".")
        assert done.returncode == 0, done.stderr
        assert client.recv(1) == b""


def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, data
        data += piece
    return data


# -- bodies that are not buffered -------------------------------------------------------------------------------------


@pytest.mark.both_queues
def test_both_directions_at_a_time(share_command: ShareCommand) -> None:
    server = share_command("--no-request-buffering")
    with server.raw() as client:
        client.sendall(b"POST /duplex HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        wait_for(lambda: server.workers()[0]["sessions"] == 1, "the request with the application")
        said = b""
        for word in (b"one", b"two", b"three"):
            client.sendall(b"%x\r\n%b\r\n" % (len(word), word))
            while word not in said:
                said += client.recv(1000)
        client.sendall(b"0\r\n\r\n")
        while not said.endswith(b"0\r\n\r\n"):
            said += client.recv(1000)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n"), "and the connection goes on"


def test_continue_is_the_applications_to_say(share_command: ShareCommand) -> None:
    server = share_command("--no-request-buffering")
    for path, first in (("/duplex", b"HTTP/1.1 100 Continue\r\n\r\n"), ("/early", b"HTTP/1.1 413 ")):
        with server.raw() as client:
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
            client.sendall(head.encode())
            assert client.recv(len(first)) == first


def test_a_body_that_is_not_wanted_leaves_the_answer_readable(share_command: ShareCommand) -> None:
    for options in ((), ("--no-request-buffering",)):
        server = share_command(*options)
        reply = server.request("POST", "/early", bytes(3_000_000))
        assert (reply.status, reply.body) == (413, b"too large for me")


def test_a_body_that_breaks_the_rules(share_command: ShareCommand) -> None:
    server = share_command("--no-request-buffering")
    answer = ask(server, "POST /body HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nzz\n")
    assert answer.data.startswith(b"HTTP/1.1 400 ")
    assert server.get("/").status == 200


def test_large_bodies_pass_through(share_command: ShareCommand) -> None:
    server = share_command("--no-request-buffering")
    body = os.urandom(3_000_000)
    connection = server.keep_alive()
    for _ in range(2):
        assert connection.exchange("POST", "/body", body).body == body
        assert connection.exchange("POST", "/body", iter([body])).body == body
    connection.close()


# -- when it goes wrong -----------------------------------------------------------------------------------------------


NO_ANSWERS = {
    "/broken/lengths": "breaks HTTP/1.1: conflicting Content-Length",
    "/broken/both": r"breaks HTTP/1.1: it has Content-Length and Transfer-Encoding",
    "/broken/chunk": "breaks HTTP/1.1: illegal chunk header",
    "/broken/line": "breaks HTTP/1.1: illegal header line",
    "/broken/garbage": "breaks HTTP/1.1: illegal status line",
    "/broken/status": "breaks HTTP/1.1: illegal status line",
    "/broken/version": "breaks HTTP/1.1: it is of HTTP/2.0",
    "/broken/huge": "breaks HTTP/1.1: malformed Content-Length in a response",
    "/broken/half-head": "breaks HTTP/1.1: ",
    "/broken/silent": "gave no answer: the connection was closed before a response",
}


def test_an_answer_that_is_none_is_a_502_that_says_why(share_command: ShareCommand) -> None:
    server = share_command()
    for path, why in NO_ANSWERS.items():
        for method in ("GET", "POST"):
            reply = server.request(method, path)
            assert reply.status == 502, path
            found = server.wait_log(rf"Error (\S+) in {method} {path}\n.*the application \(.*hostile.py\) .*{why}")
            assert found[1] in reply.text, path
        assert server.get("/").status == 200, path


def test_an_answer_that_is_not_whole_is_cut(share_command: ShareCommand) -> None:
    server = share_command()
    for path in ("/broken/short", "/broken/late"):
        answer = exchange_bytes(server.address, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answer.data.startswith(b"HTTP/1.1 200 OK"), path
        assert answer.reset, path
        server.wait_log(rf"Error \S+ in GET {path}\n.*the application \(.*hostile.py\) ")
        assert server.get("/").status == 200, path


def test_a_process_that_dies_is_a_worker_that_dies(serve_command: ServeCommand, site: Site) -> None:
    server = serve_command()
    (worker,) = server.worker_pids()
    reply = server.get("/die?7")
    assert reply.status == 502
    error_id = server.wait_log(rf"error id (\S+): worker {worker} was serving GET /die .*: exit code 7")[1]
    assert error_id in reply.text
    server.wait_log(r"\| it is time to go")
    server.wait_log(r"\| appsrv: the application \(.*hostile.py\) ended: exit code 7")
    server.wait_workers(1)
    assert server.get("/").status == 200
    assert "exit code 7" in site.command("status", "--show", "deaths").stdout


def test_the_cause_of_its_death_is_the_workers(serve_command: ServeCommand, site: Site) -> None:
    """Also where it ends without an error, or by another process' signal."""
    server = serve_command()
    for how, cause in (("/crash", "killed by SIGSEGV"), ("/die-midway", "exit code 9"), ("/leave", "exit code 0")):
        (worker,) = server.wait_workers(1)
        exchange_bytes(server.address, f"GET {how} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        server.wait_log(rf"worker {worker} of .* ended: {cause}")
        wait_for(lambda worker=worker: server.worker_pids() - {worker}, "another worker")  # type: ignore[misc]
        assert server.get("/").status == 200
    (worker,) = server.wait_workers(1)
    child_of(worker).kill()
    server.wait_log(rf"worker {worker} of .* ended: killed by SIGKILL")
    wait_for(lambda: server.worker_pids() - {worker}, "another worker")
    assert "exit code 0" in site.command("status", "--show", "deaths").stdout
    assert "told to end" not in server.log()


def test_what_it_has_said_before_its_end_arrives(serve_command: ServeCommand) -> None:
    server = serve_command()
    for size in (3_000_000, 6_000_000, 6_000_000):
        (worker,) = server.wait_workers(1)
        assert len(server.get(f"/last-words?{size}").body) == size
        server.wait_log(rf"worker {worker} of .* ended: exit code 0")


def test_a_killed_worker_leaves_nobody_behind(serve_command: ServeCommand) -> None:
    server = serve_command(command=f"true && {PYTHON}")
    (worker,) = server.worker_pids()
    family = [process.pid for process in psutil.Process(worker).children(recursive=True)]
    assert len(family) == 2, "a shell and what it has started"
    os.kill(worker, signal.SIGKILL)
    wait_for(gone(*family), "the end of the processes behind it")
    wait_for(lambda: server.worker_pids() - {worker}, "another worker")
    assert server.get("/").status == 200


def test_nor_when_its_preloader_has_gone_before_it(serve_command: ServeCommand) -> None:
    server = serve_command(command=f"true && {PYTHON}")
    (worker,) = server.worker_pids()
    family = [process.pid for process in psutil.Process(worker).children(recursive=True)]
    os.kill(server.pid_of("appsrv preloader"), signal.SIGKILL)
    wait_for(lambda: psutil.Process(worker).ppid() == server.pid, "the watchdog's adoption")
    os.kill(worker, signal.SIGKILL)
    wait_for(gone(*family), "the end of the processes behind it")


def test_a_killed_server_loses_no_process(serve_command: ServeCommand) -> None:
    server = serve_command()
    first = server.get("/").text
    os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
    assert server.get("/").status == 200
    wait_for(gone(int(first)), "the end of the dead server's process")


# -- the beginning ----------------------------------------------------------------------------------------------------


def test_a_command_that_never_listens(serve_command: ServeCommand) -> None:
    # The worker says why a tenth of it, but 1 s at most, before the server would end the worker.
    server = serve_command("--start-timeout", "10", environment={"HOSTILE": "never"}, wait=False)
    assert server.wait_exit() == 4
    said = server.terminal.splitlines()[-1]
    assert "hostile.py) did not listen on $PORT (" in said
    assert said.endswith("within start_timeout (10 s): the command has to take its port from there")


def test_the_order_to_stop_while_it_starts(serve_command: ServeCommand) -> None:
    # If it waited for either, it would not stop before `stop` has lost its patience.
    server = serve_command(
        "--start-timeout", "600", "--stop-timeout", "600", environment={"HOSTILE": "never"}, wait=False
    )
    wait_for(lambda: [title for title in server.titles().values() if title == PYTHON], "the process")
    server.stop()
    assert "within start_timeout" not in server.terminal


def test_a_command_that_ends_at_once(serve_command: ServeCommand) -> None:
    server = serve_command(environment={"HOSTILE": "broken"}, wait=False)
    assert server.wait_exit() == 4
    said = server.terminal.splitlines()
    assert said[-1].startswith("appsrv: error: the application (")
    assert said[-1].endswith("hostile.py) ended before it took connections: exit code 3")
    assert "there is something wrong with me" in said


def test_the_same_in_the_background(site: Site) -> None:
    done = site.command("start", "--daemonize", "--port", "0", "--start-command", "no-such-program --now")
    assert done.returncode == 4
    assert "no-such-program" in done.stderr
    assert "(no-such-program --now) ended before it took connections: exit code 127" in done.stderr


def test_a_new_version_that_does_not_start_leaves_the_old_one(serve_command: ServeCommand, site: Site) -> None:
    flag = site.directory / "broken"
    command = f"test ! -e {flag} || export HOSTILE=broken; exec {PYTHON}"
    server = serve_command(command=command)
    first = server.get("/").text
    flag.touch()
    with Load(server.address, 2) as load:
        done = site.command("restart-app", ".")
    assert done.returncode == 1
    assert "ended before it took connections: exit code 3" in done.stderr
    assert load.failures == []
    assert server.get("/").text == first
    flag.unlink()
    assert site.command("restart-app", ".").returncode == 0
    assert server.get("/").text != first


def test_the_health_path_is_asked_of_the_process(serve_command: ServeCommand, site: Site) -> None:
    server = serve_command("--health-path", "/broken/garbage")
    done = site.command("restart-app", ".")
    assert done.returncode == 1
    assert "the health check GET /broken/garbage was answered with 502" in done.stderr
    assert server.get("/").status == 200


# -- restarts and the end ---------------------------------------------------------------------------------------------


def test_restarts_lose_no_request(serve_command: ServeCommand, site: Site) -> None:
    server = serve_command("--min-instances", "2")
    server.wait_workers(2)
    first = {str(child_of(worker).pid) for worker in server.worker_pids()}
    with Load(server.address, 4, "/sleep?0.01") as load:
        for _ in range(2):
            assert site.command("restart-app", ".").returncode == 0
    assert load.failures == []
    assert load.served > 20
    assert first.isdisjoint(str(child_of(worker).pid) for worker in server.worker_pids())
    wait_for(gone(*map(int, first)), "the end of the old processes")


def test_the_restart_file(serve_command: ServeCommand, site: Site) -> None:
    server = serve_command()
    first = server.get("/").text
    site.write("tmp/restart.txt", "")
    wait_for(lambda: server.get("/").text != first, "a new process", 20)


def test_a_process_that_ignores_term_is_killed(serve_command: ServeCommand) -> None:
    # The worker kills it a tenth of that, but 1 s at most, before the server would kill the worker.
    server = serve_command("--stop-timeout", "10", environment={"HOSTILE": "stubborn"})
    (worker,) = server.worker_pids()
    child = child_of(worker).pid
    assert server.stop() == 0
    assert gone(child)()
    assert "did not end within" in server.log()
    assert "hostile.py) did not end within" in server.log()


@pytest.mark.parametrize("command", [f"{PYTHON}; true", f"{PYTHON} | cat"])
def test_what_a_shell_has_started_has_the_time_to_end_that_a_single_command_has(
    serve_command: ServeCommand, command: str
) -> None:
    server = serve_command(command=command, environment={"HOSTILE": "tidy"})
    assert server.stop() == 0
    assert "everything is put away" in server.log()


def test_requests_in_progress_are_finished_first(serve_command: ServeCommand) -> None:
    server = serve_command()
    until = server.site.directory / "until"
    idle = server.keep_alive()
    assert idle.exchange("GET", "/").status == 200
    with ThreadPoolExecutor(1) as clients:
        asked = clients.submit(server.get, f"/hold?{until}")
        try:
            wait_for(Path(f"{until}.begun").exists, "the request in the process")
            server.child.send_signal(signal.SIGTERM)
            assert idle.sock.recv(1) == b"", "the stop has begun"
        finally:
            until.touch()
        assert asked.result().status == 200
    idle.close()
    assert server.wait_exit() == 0


def test_an_overdue_request_is_answered(serve_command: ServeCommand) -> None:
    # Much longer than an ordinary request, whatever else the machine does.
    server = serve_command("--max-request-time", "4")
    assert server.get("/sleep?60").status == 504
    assert server.get("/").status == 200


def test_memory_that_its_processes_use_counts(serve_command: ServeCommand) -> None:
    server = serve_command("--memory-limit", "1M")
    first = server.get("/").text
    server.wait_log("above memory_limit")
    wait_for(lambda: server.get("/").text != first, "a new process", 20)


# -- how it is named --------------------------------------------------------------------------------------------------


def test_in_a_file_of_a_directory(site: Site, launch: Launch) -> None:
    site.write("app/appsrv.toml", f'start_command = "{PYTHON}"\n')
    address = ("127.0.0.1", free_port())
    server = launch([COMMAND, "start", "app", "--port", str(address[1])], address).wait_ready()
    assert f"PWD={site.directory}/app" in server.get("/environment").text


def test_an_application_and_a_command_are_one_too_many(site: Site) -> None:
    done = site.command("start", "wsgi:application", "--start-command", "node server.js")
    assert done.returncode == 2
    assert "app (wsgi:application) and start_command (node server.js) are two applications" in done.stderr
