"""Generic applications of the kinds people have: the same shapes of requests through each of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from integration.conftest import Launch
from support.http import Address, exchange_bytes
from support.load import Load
from support.reports import reported
from support.server import COMMAND, EXAMPLES, Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

APPS = Path(__file__).resolve().parents[1] / "generic"


@dataclass(frozen=True)
class Kind:
    """One server program. `sees_client`: it believes the forwarded fields without being told more."""

    name: str
    command: str
    needs: str
    sees_client: bool = True
    streams: bool = True

    @property
    def missing(self) -> bool:
        program = shutil.which(self.needs, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        return program is None and importlib.util.find_spec(self.needs) is None


KINDS = (
    Kind("node", f"node {APPS}/shapes.js", "node"),
    Kind("node-socket", f'test -n "$SOCKET" && node {APPS}/shapes.js', "node"),
    Kind("puma", f"puma --bind unix://$SOCKET --threads 5 {APPS}/shapes.ru", "puma"),
    Kind("webrick", f"rackup --server webrick --host 127.0.0.1 --port $PORT {APPS}/shapes.ru", "rackup", streams=False),
    Kind(
        "uvicorn",
        f"uvicorn --app-dir {APPS} --uds $SOCKET --forwarded-allow-ips '*' --log-level warning shapes_asgi:application",
        "uvicorn",
    ),
    Kind("uvicorn-port", f"uvicorn --app-dir {APPS} --port $PORT shapes_asgi:application", "uvicorn"),
    Kind("daphne", f"PYTHONPATH={APPS} daphne --proxy-headers -u $SOCKET shapes_asgi:application", "daphne"),
)
# Whether it listens at a port or at a socket is the worker's business, and has no part in a restart.
RESTARTED = tuple(kind for kind in KINDS if kind.name not in ("node-socket", "uvicorn-port"))
WEBSOCKETS = tuple(kind for kind in KINDS if kind.name in ("uvicorn", "uvicorn-port", "daphne"))


def of(kinds: tuple[Kind, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "kind",
        [
            pytest.param(kind, id=kind.name, marks=pytest.mark.skipif(kind.missing, reason=f"{kind.needs} is not here"))
            for kind in kinds
        ],
    )


def argv_of(kind: Kind, *options: str) -> tuple[list[str], Address]:
    address = ("127.0.0.1", free_port())
    return [COMMAND, "start", "--start-command", kind.command, "--port", str(address[1]), *options], address


@pytest.fixture
def share_kind(shared_servers: SharedServers, request: pytest.FixtureRequest) -> Callable[[Kind], Server]:
    """One server of each kind for all tests that only ask."""

    def start(kind: Kind) -> Server:
        return reported(request, shared_servers.get(kind, lambda site: Server(site, *argv_of(kind)), 60))

    return start


@of(KINDS)
def test_the_shapes_of_requests(kind: Kind, share_kind: Callable[[Kind], Server]) -> None:
    server = share_kind(kind)
    process = server.get("/").text
    workers = [psutil.Process(pid) for pid in server.worker_pids()]
    assert int(process) in [child.pid for worker in workers for child in worker.children(recursive=True)]
    connection = server.keep_alive()
    head = connection.exchange("HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    for size in (5, 300_000):
        body = os.urandom(size)
        assert connection.exchange("POST", "/echo", body).body == body
        assert connection.exchange("PUT", "/echo", iter([body[:3], body[3:]])).body == body, "in chunks"
    about = connection.exchange("GET", "/about", None, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "9.9.9.9"})
    said = about.json
    assert said["host"].startswith("localhost")
    assert (said["ip"], said["scheme"]) == ("9.9.9.9", "https") or kind.name == "daphne"
    connection.close()


@of(KINDS)
def test_a_body_that_is_announced(kind: Kind, share_kind: Callable[[Kind], Server]) -> None:
    server = share_kind(kind)
    with server.raw() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        answer = b""
        while not answer.endswith(b"hello") and b"hello\r\n0\r\n\r\n" not in answer:
            answer += client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200 "), "100 is said once"


@of(KINDS)
def test_streams(kind: Kind, share_kind: Callable[[Kind], Server]) -> None:
    server = share_kind(kind)
    until = server.site.directory / "until"
    if not kind.streams:
        until.touch()
    with server.raw() as reader:
        reader.sendall(b"GET /events?%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % bytes(until))
        begun = b""
        while b"data: " not in begun:
            begun += reader.recv(65536)
        # The first one has come when the others are not there yet.
        until.touch()
        whole = begun + b"".join(iter(lambda: reader.recv(65536), b""))
    assert whole.count(b"data: ") == 3
    assert begun.count(b"data: ") == 1 or not kind.streams
    with server.raw() as slow:
        slow.sendall(b"GET /big?20000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert server.get("/").status == 200
        whole = b"".join(iter(lambda: slow.recv(1 << 20), b""))
    top, _, body = whole.partition(b"\r\n\r\n")
    assert b"content-length: 20000000" in top.lower()
    assert len(body) == 20_000_000


@of(RESTARTED)
def test_restarts_and_deaths(kind: Kind, launch: Launch, site: Site) -> None:
    server = launch(*argv_of(kind, "--max-pool-size", "1")).wait_ready(60)
    first = int(server.get("/").text)
    with Load(server.address, 2) as load:
        done = site.command("restart-app", ".", seconds=60)
        assert done.returncode == 0, done.stderr
    assert load.failures == []
    second = int(server.get("/").text)
    assert second != first
    os.kill(next(iter(server.worker_pids())), signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(second), "the end of the process behind it")
    server.wait_workers(1, 60)
    assert server.get("/").text != str(second)


@of(WEBSOCKETS)
def test_a_websocket(kind: Kind, share_kind: Callable[[Kind], Server]) -> None:
    from websockets.sync.client import connect

    server = share_kind(kind)
    assert isinstance(server.address, tuple)
    with connect(f"ws://{server.address[0]}:{server.address[1]}/ws", open_timeout=20) as client:
        for message in ("hello", "é" * 1000, b"\0" * 70_000):
            client.send(message)
            assert client.recv(20) == message
    wait_for(lambda: not any(worker["sessions"] for worker in server.workers()), "the end of the conversation")


# -- the example projects ---------------------------------------------------------------------------------------------

EXAMPLE_NEEDS = {"node": "node", "ruby": "puma", "asgi": "uvicorn"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.skipif(Kind(name, "", needs).missing, reason=f"{needs} is not here"))
        for name, needs in EXAMPLE_NEEDS.items()
    ]
)
def example(request: pytest.FixtureRequest, site: Site, launch: Launch) -> tuple[str, Server]:
    assert (EXAMPLES / request.param).is_dir()
    site.add_project(request.param)
    address = ("127.0.0.1", free_port())
    return request.param, launch([COMMAND, "start", "--port", str(address[1])], address).wait_ready(60)


def test_the_example_projects(example: tuple[str, Server]) -> None:
    name, server = example
    assert server.get("/").text.startswith("Hello from process ")
    assert server.get("/nothing").status == 404
    assert server.request("HEAD", "/").body == b""
    if name != "ruby":
        from websockets.sync.client import connect

        assert isinstance(server.address, tuple)
        with server.raw() as reader:
            reader.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            events = b""
            while b"data: 2\n" not in events:
                events += reader.recv(1000)
        with connect(f"ws://{server.address[0]}:{server.address[1]}/", open_timeout=20) as client:
            client.send("hello")
            assert client.recv(20) == "hello"
    else:
        assert server.request("POST", "/echo", b"said").body == b"said"
        assert exchange_bytes(server.address, b"GET / HTTP/1.0\r\n\r\n").data.startswith(b"HTTP/1.1 200 ")
