"""The connections of one worker to its upstream process, kept for the next requests as long as that is safe.

`keepalive` decides how long that is. This module knows the address of the process, not the process.
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

MAX_IDLE_CONNECTIONS = 64
# The interval at which idle connections are checked for their end.
IDLE_CHECK_SECONDS = 0.25
# The time limit of connect(2), and the pause before another attempt or check.
CONNECT_SECONDS, RETRY_SECONDS = 10.0, 0.01
LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")

Clock = Callable[[], float]


class UpstreamAddress:
    """The address on which an upstream process listens: the path of a unix socket, or a port on the loopback."""

    def __init__(self, *, port: int = 0, path: str = "") -> None:
        self.port = port
        self.path = path
        # A program that listens on "localhost" may use IPv4 or IPv6. After the first connection one of them is left.
        self._hosts = list(LOOPBACK_ADDRESSES)

    def __str__(self) -> str:
        return self.path or f"port {self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variable from which the process reads this address."""
        return {"SOCKET": self.path} if self.path else {"PORT": str(self.port)}

    def connect(self, timeout: float = CONNECT_SECONDS) -> Any:
        """A connected gevent socket; `timeout` in seconds. Raises `OSError`."""
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
            # Without TCP_NODELAY, Nagle's algorithm delays the body behind its head until the head is acknowledged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._hosts = [host]
            return sock
        raise refusal

    def remove(self) -> None:
        """Remove the socket file that the process has left."""
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
                # The backlog of the listening socket is full (EAGAIN in connect(2)). No event reports free space in it,
                # so this polls.
                if time.monotonic() > deadline:
                    raise
                gevent.sleep(RETRY_SECONDS)
    except BaseException:
        sock.close()
        raise


def _connected(sock: Any, address: Any, timeout: float) -> Any:
    sock.settimeout(timeout)
    try:
        sock.connect(address)
        # If no socket listens on the port, the kernel may have chosen the same port for this socket. It then connects
        # to itself by a simultaneous open (RFC 9293 section 3.5).
        if sock.getsockname() == sock.getpeername():
            raise ConnectionRefusedError("no process listens there")
    except BaseException:
        sock.close()
        raise
    return sock


class IdleConnection:
    """A connection without a request.

    `since`: the time when it became idle. `seen_open`: the last time when a check found it open.
    """

    __slots__ = ("connection", "seen_open", "since")

    def __init__(self, connection: UpstreamConnection, since: float) -> None:
        self.connection = connection
        self.since = self.seen_open = since


class UpstreamConnections:
    """The connections of a worker. Of the idle ones the most recently used one is used next."""

    def __init__(self, address: UpstreamAddress, clock: Clock = time.monotonic) -> None:
        self._address = address
        self._clock = clock
        self._limit = ReuseLimit()
        # In the order in which they became idle.
        self._idle: list[IdleConnection] = []
        self._in_use: set[UpstreamConnection] = set()
        self._checks: Any = None

    def take(self, *, repeatable: bool = True) -> UpstreamConnection:
        """An idle connection, else a new one. `repeatable`: the request may be sent again. Raises `OSError`."""
        now = self._clock()
        limit = self._limit.seconds(now, repeatable=repeatable)
        while self._idle and now - self._idle[-1].since < limit:
            idle = self._idle.pop()
            # The upstream may still close the connection between this check and the request. `proxy_app` then sends
            # the request again if it may be repeated.
            if not idle.connection.stale():
                self._in_use.add(idle.connection)
                return idle.connection
            self._close_stale(idle)
        return self.new()

    def new(self) -> UpstreamConnection:
        """A new connection. Raises `OSError`."""
        connection = UpstreamConnection(self._address.connect())
        self._in_use.add(connection)
        return connection

    def announce_timeout(self, seconds: float) -> None:
        """Record the idle time, in seconds, after which the process closes a connection by its own announcement."""
        self._limit.announce(seconds)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep the connection after its response if it can be used again, else close it."""
        self._in_use.discard(connection)
        if not connection.finish():
            connection.close()
            return
        self._idle.append(IdleConnection(connection, self._clock()))
        if len(self._idle) > MAX_IDLE_CONNECTIONS:
            self._idle.pop(0).connection.close()
        if self._checks is None:
            self._checks = gevent.spawn(self._check_regularly)

    def _check_regularly(self) -> None:
        """The greenlet of the checks; it ends when there are no idle connections."""
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

    def _close_stale(self, idle: IdleConnection) -> None:
        idle.connection.close()
        self._limit.observe_close(idle.seen_open - idle.since, self._clock())

    def drop(self, connection: UpstreamConnection) -> None:
        """Close a connection whose response was not read to its end."""
        self.hand_over(connection)
        connection.close()

    def hand_over(self, connection: UpstreamConnection) -> None:
        """Give up a connection that another object closes from now on, such as a relay."""
        self._in_use.discard(connection)

    def drain(self, seconds: float) -> None:
        """After the end of the process, wait at most `seconds` until its last responses are read."""
        deadline = self._clock() + seconds
        while self._in_use and self._clock() < deadline:
            gevent.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Close the idle connections: some servers stop only when all connections have ended."""
        for idle in self._idle:
            idle.connection.close()
        self._idle.clear()
