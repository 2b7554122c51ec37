"""What an application opens while it is loaded, and its workers would share: the log names it before the first fork."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from integration.conftest import Serve
from support.server import Server, Site
from support.waiting import wait_for

WARNING = "opened while loading and shared by all workers"


class Kept(socketserver.BaseRequestHandler):
    """Answers like a small HTTP server, and keeps the connection."""

    def handle(self) -> None:
        while self.request.recv(4096):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def database() -> Iterator[int]:
    """The port of a server that takes connections."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Kept) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


SERVE = """
import json, os, time

def application(environ, start_response):
    # Long enough for another worker to take the next request.
    time.sleep(0.2)
    body = json.dumps([os.getpid(), answer()]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
CONNECTED = """
import http.client, os, socket, sqlite3
raw = socket.create_connection(("127.0.0.1", PORT))
local = socket.socket(socket.AF_UNIX)
local.connect("PATH")
client = http.client.HTTPConnection("127.0.0.1", PORT)
client.request("GET", "/")
client.getresponse().read()
rows = sqlite3.connect("rows.sqlite")
rows.execute("create table numbers (n)")
rows.commit()
socket.setdefaulttimeout(5)
answer = lambda: raw.gettimeout() is None and os.get_blocking(raw.fileno())
"""
HARMLESS = """
import asyncio, logging, logging.handlers, socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect(("127.0.0.1", PORT))
listening = socket.create_server(("127.0.0.1", 0))
loop = asyncio.new_event_loop()
logging.getLogger("far").addHandler(logging.handlers.SocketHandler("127.0.0.1", PORT))
logging.getLogger("far").warning("hello")
answer = lambda: None
"""
CLOSED = """
import socket
import appsrv.hooks
raw = socket.create_connection(("127.0.0.1", PORT))
appsrv.hooks.before_fork(raw.close)
answer = lambda: None
"""


def begin(serve: Serve, site: Site, source: str, port: int, *options: str) -> Server:
    source = source.replace("PORT", str(port)).replace("PATH", str(site.run / "database.sock"))
    site.write("app.py", source + SERVE)
    return serve("app:application", "--max-pool-size", "4", "--min-instances", "2", *options)


@pytest.mark.parametrize("model", ["process", "gevent"])
def test_connections_are_named_with_the_way_out(serve: Serve, site: Site, database: int, model: str) -> None:
    unix = str(site.run / "database.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(unix)
        listener.listen()
        server = begin(serve, site, CONNECTED, database, "--concurrency-model", model)
        line = server.wait_log(f"{WARNING}.*")[0]
        raw = f"127.0.0.1:{database}"
        for named in (f"{raw}, ", f"{raw} (http.client)", unix, str(site.directory / "rows.sqlite")):
            assert named in line, line
        assert "appsrv.hooks.before_fork" in line
        assert "--spawn-method direct" in line
        assert server.log().count(WARNING) == 1
        if model == "process":
            assert json.loads(server.get("/").text)[1] is True, "to look must not change what is looked at"


@pytest.mark.parametrize("source", [HARMLESS, CLOSED, "answer = lambda: None\n"], ids=["harmless", "closed", "plain"])
def test_what_may_be_shared_is_not_named(serve: Serve, site: Site, database: int, source: str) -> None:
    server = begin(serve, site, source, database)
    server.wait_workers(2)
    assert WARNING not in server.log()


def test_with_direct_spawning_nothing_is_shared(serve: Serve, site: Site, database: int) -> None:
    source = CLOSED.replace("appsrv.hooks.before_fork(raw.close)", "")
    server = begin(serve, site, source, database, "--spawn-method", "direct")
    server.wait_workers(2)
    assert WARNING not in server.log()


# As numpy: one generator in the module, which nothing but a call seeds.
NUMPY = "import random as _random\n_generator = _random.Random(1)\nseed, random = _generator.seed, _generator.random\n"


def test_random_numbers_are_not_those_of_the_other_workers(serve: Serve, site: Site, database: int) -> None:
    site.write("numpy/__init__.py", "from numpy import random\n")
    site.write("numpy/random.py", NUMPY)
    source = "import numpy, random\nNUMBERS = []\ndef answer():\n"
    source += "    NUMBERS.append((random.random(), numpy.random.random()))\n    return NUMBERS[0]\n"
    server = begin(serve, site, source, database)
    server.wait_workers(2)
    first: dict[int, tuple[float, float]] = {}

    def ask() -> None:
        pid, numbers = json.loads(server.get("/").text)
        first[pid] = tuple(numbers)

    def both() -> bool:
        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(15)
        return len(first) > 1

    wait_for(both, "answers of two workers", 20)
    for kind in (0, 1):
        assert len({numbers[kind] for numbers in first.values()}) == len(first)
