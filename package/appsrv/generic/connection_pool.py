"""The connections of one worker to the process behind it: kept for the next request as long as that is safe.

`upstream_keepalive` decides how long that is. Knows where that process listens, not what it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket

from appsrv.generic.connection import UpstreamConnection
from appsrv.generic.keepalive import ReuseLimit

MOST_IDLE = 64
# How often idle connections are checked for one that the process has closed.
IDLE_CHECK_SECONDS = 0.25
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


class Idle:
    """A connection without a request; `seen_open`: when the last check found it open."""

    __slots__ = ("connection", "seen_open", "since")

    def __init__(self, connection: UpstreamConnection, since: float) -> None:
        self.connection = connection
        self.since = self.seen_open = since


class UpstreamConnections:
    """Those that are open and idle; the one that was used last is the first to be used again."""

    def __init__(self, place: Place, clock: Clock = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._limit = ReuseLimit()
        # In the order in which they became idle.
        self._idle: list[Idle] = []
        self._asked: set[UpstreamConnection] = set()
        self._checks: Any = None

    def take(self, *, repeatable: bool = True) -> UpstreamConnection:
        """One that is idle, or else a new one; `repeatable`: the request may be sent again. Raises OSError."""
        now = self._clock()
        limit = self._limit.seconds(now, repeatable=repeatable)
        while self._idle and now - self._idle[-1].since < limit:
            idle = self._idle.pop()
            if not idle.connection.stale():
                self._asked.add(idle.connection)
                return idle.connection
            self._close_stale(idle)
        return self.new()

    def new(self) -> UpstreamConnection:
        """One that nobody has used. Raises OSError."""
        connection = UpstreamConnection(self._place.connect())
        self._asked.add(connection)
        return connection

    def announce_timeout(self, seconds: float) -> None:
        """The process has announced that it closes connections which were idle for so long."""
        self._limit.announce(seconds)

    def give_back(self, connection: UpstreamConnection) -> None:
        """The response is over: keep the connection if it can be used again."""
        self._asked.discard(connection)
        if not connection.done():
            connection.close()
            return
        self._idle.append(Idle(connection, self._clock()))
        if len(self._idle) > MOST_IDLE:
            self._idle.pop(0).connection.close()
        if self._checks is None:
            self._checks = gevent.spawn(self._check_regularly)

    def _check_regularly(self) -> None:
        """Runs as long as there are idle connections."""
        while self._idle:
            gevent.sleep(IDLE_CHECK_SECONDS)
            self.check()
        self._checks = None

    def check(self) -> None:
        """Close the connections that the process has closed, or that are too old to be used again."""
        now = self._clock()
        found, self._idle = self._idle, []
        limit = self._limit.seconds(now, repeatable=True)
        for idle in found:
            if idle.connection.stale():
                self._close_stale(idle)
            elif now - idle.since >= limit:
                idle.connection.close()
            else:
                idle.seen_open = now
                self._idle.append(idle)

    def _close_stale(self, idle: Idle) -> None:
        idle.connection.close()
        self._limit.observe_close(idle.seen_open - idle.since, self._clock())

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
        for idle in self._idle:
            idle.connection.close()
        self._idle.clear()
