"""The connections of one worker to the process behind it: kept for the next request as long as that is safe.

Knows where that process listens, not what it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket

from appsrv.upstream_connection import UpstreamConnection

# Node.js and uvicorn close what has been idle for 5 s: a request must not meet the end on its way.
IDLE = 4.0
MOST_IDLE = 64
CONNECT, AGAIN = 10.0, 0.01
HERE = ("127.0.0.1", "::1")

Clock = Callable[[], float]


class Place:
    """Where a process listens: the path of a unix socket, or a port of this machine."""

    def __init__(self, *, port: int = 0, path: str = "") -> None:
        self.port = port
        self.path = path
        # A program that listens on "localhost" may be on either.
        self._hosts = list(HERE)

    def __str__(self) -> str:
        return self.path or f"port {self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """What the process is told of it."""
        return {"SOCKET": self.path} if self.path else {"PORT": str(self.port)}

    def connect(self, timeout: float = CONNECT) -> Any:
        """A gevent socket. Raises OSError."""
        if self.path:
            return _connected_unix(self.path, timeout)
        refusal = OSError("nowhere to connect to")
        for host in list(self._hosts):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                sock = _connected(socket.socket(family, socket.SOCK_STREAM), (host, self.port), timeout)
            except OSError as error:
                refusal = error
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._hosts = [host]
            return sock
        raise refusal

    def forget(self) -> None:
        """The process is no more: take away what it has left."""
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def _connected_unix(path: str, timeout: float) -> Any:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                sock.connect(path)
                return sock
            except BlockingIOError:
                # The backlog is full, and no event tells when it is not (unix(7), EAGAIN).
                if time.monotonic() > deadline:
                    raise
                gevent.sleep(AGAIN)
    except BaseException:
        sock.close()
        raise


def _connected(sock: Any, address: Any, timeout: float) -> Any:
    sock.settimeout(timeout)
    try:
        sock.connect(address)
        # A port that nobody listens on may be this very socket's own (RFC 9293 section 3.5, simultaneous open).
        if sock.getsockname() == sock.getpeername():
            raise ConnectionRefusedError("nobody listens there")
    except BaseException:
        sock.close()
        raise
    return sock


class UpstreamConnections:
    """Those that are open and idle; the one that was used last is the first to be used again."""

    def __init__(self, place: Place, clock: Clock = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._idle: list[tuple[float, UpstreamConnection]] = []
        self._asked: set[UpstreamConnection] = set()

    def take(self) -> UpstreamConnection:
        """One that is idle, or else a new one. Raises OSError."""
        while self._idle:
            since, connection = self._idle.pop()
            if self._clock() - since < IDLE and not connection.stale():
                self._asked.add(connection)
                return connection
            connection.close()
        return self.new()

    def new(self) -> UpstreamConnection:
        """One that nobody has used. Raises OSError."""
        connection = UpstreamConnection(self._place.connect())
        self._asked.add(connection)
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """The response is over: keep the connection if it can be used again."""
        self._asked.discard(connection)
        if not connection.done():
            connection.close()
            return
        self._idle.append((self._clock(), connection))
        oldest = self._clock() - IDLE
        while self._idle and (len(self._idle) > MOST_IDLE or self._idle[0][0] < oldest):
            self._idle.pop(0)[1].close()

    def drop(self, connection: UpstreamConnection) -> None:
        """The response is not whole, and nobody reads on."""
        self.lend(connection)
        connection.close()

    def lend(self, connection: UpstreamConnection) -> None:
        """It is somebody else's from now on."""
        self._asked.discard(connection)

    def drain(self, seconds: float) -> None:
        """The process has ended: wait, but no longer than that, until all that it has still sent is read."""
        deadline = self._clock() + seconds
        while self._asked and self._clock() < deadline:
            gevent.sleep(AGAIN)

    def close(self) -> None:
        """Nothing more is asked: a server that waits for the ends of its connections need not."""
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()
