"""What is sent to a server: wrk, for throughput and latency, and a few clients for what wrk cannot tell."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "wrk.lua"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class LoadFailed(Exception):
    """The server did not stand the load; the message says how."""


@dataclass(frozen=True)
class WrkResult:
    """Latencies are milliseconds."""

    requests: int
    bytes: int
    seconds: float
    p50: float
    p99: float
    max: float
    failed: int
    refused: int
    timeouts: int

    @property
    def rate(self) -> float:
        """Answers per second; one that only says no (4xx, 5xx) is not counted."""
        return (self.requests - self.refused) / self.seconds


class Wrk:
    """One run of wrk in the background; `result()` waits for it."""

    def __init__(
        self,
        port: int,
        seconds: float,
        connections: int,
        path: str = "/",
        headers: Sequence[str] = (),
        body: int = 0,
    ) -> None:
        options = [word for header in headers for word in ("-H", header)]
        url = f"http://127.0.0.1:{port}{path}"
        shape = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
        self._child = subprocess.Popen(
            ["wrk", *shape, "-s", str(SCRIPT), *options, url],
            env={**os.environ, "WRK_BODY": str(body)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def result(self) -> WrkResult:
        output, _ = self._child.communicate()
        lines = [line for line in output.splitlines() if line.startswith("{")]
        if not lines:
            raise LoadFailed(output.strip()[-200:] or "wrk printed nothing")
        figures = json.loads(lines[-1])
        for name in ("p50", "p99", "max"):
            figures[name] /= 1000
        result = WrkResult(**figures)
        if result.requests <= result.refused:
            raise LoadFailed("no request was answered")
        return result


def wrk(port: int, seconds: float, connections: int, path: str = "/", **more: object) -> WrkResult:
    return Wrk(port, seconds, connections, path, **more).result()  # type: ignore[arg-type]


def get(port: int, path: str = "/", timeout: float = 10.0) -> bytes:
    """Body of one 200 answer on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise LoadFailed(f"{response.status} for {path}")
    return body


def answered_share(port: int, connections: int, seconds: float) -> float:
    """Share of so many keep-alive connections, all asking all the time, that got a 200 in `seconds`."""
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    answered: set[int] = set()
    try:
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", port), 10.0)
            sockets[client.fileno()] = client
            client.sendall(REQUEST)
            poll.register(client.fileno(), select.EPOLLIN)
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and len(answered) < connections:
            for fd, _ in poll.poll(left):
                _again(poll, sockets[fd], answered)
    finally:
        for client in sockets.values():
            client.close()
        poll.close()
    return len(answered) / connections


def _again(poll: select.epoll, client: socket.socket, answered: set[int]) -> None:
    """Note the answer and ask again; a server that closes after each answer has served this one."""
    try:
        if answer := client.recv(65536):
            if answer.startswith(b"HTTP/1.1 200"):
                answered.add(client.fileno())
            client.sendall(REQUEST)
            return
    except OSError:
        pass
    poll.unregister(client.fileno())


def parallel(port: int, path: str, count: int) -> tuple[float, list[bytes]]:
    """Ask `count` times at once; milliseconds until the last answer, and the bodies."""
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(get(port, path))) for _ in range(count)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = (time.monotonic() - started) * 1000
    if len(bodies) < count:
        raise LoadFailed(f"only {len(bodies)} of {count} parallel requests were answered")
    return passed, bodies
