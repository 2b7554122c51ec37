"""Accepts clients' connections, within the limits of how many there may be.

At the limit, the acceptor first closes the longest idle connections: a client that sends no request loses less than one
that cannot connect. Where no connection is idle, new clients wait in the backlog. The acceptor knows listening sockets
and numbers. It does not know what happens on a connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gevent
from gevent import get_hub

from appsrv.http.connection_limits import ConnectionLimits
from appsrv.http.response import Response, error_response, serialize
from appsrv.system.readiness import has_input

log = logging.getLogger("appsrv.acceptor")

ACCEPTS_PER_EVENT = 64
PAUSE_SECONDS = 0.1
RETRY_AFTER_SECONDS = 5
_READABLE = 1
_MAPPED = "::ffff:"


class Connections(Protocol):
    """The front end, as far as the acceptor needs it."""

    def count(self) -> int:
        """How many connections are open."""

    def add(self, client: socket.socket, address: str, port: int, listener: int) -> None:
        """Take over a new connection."""

    def note_refused(self, address: str, seen: bytes, response: Response) -> None:
        """Note that a client was refused with this response; `seen` are the bytes that the client had sent."""

    def close_longest_idle(self, most: int) -> int:
        """Close up to `most` idle connections, the longest idle ones first; return how many were closed."""

    def make_room_of(self, address: str) -> bool:
        """Close one idle connection of this client's address; False when it has none."""


class Acceptor:
    """Accepts from the listening sockets of the instance."""

    def __init__(
        self, limits: ConnectionLimits, connections: Connections, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._connections = connections
        self._clock = clock
        self._watchers: list[Any] = []
        self._loop = get_hub().loop

    def listen(self, sockets: Sequence[tuple[int, socket.socket]]) -> None:
        """Accept from these sockets. Each comes with the number of its listener."""
        for listener, sock in sockets:
            watcher = self._loop.io(sock.fileno(), _READABLE)
            watcher.start(self._accept, watcher, sock, listener)
            self._watchers.append(watcher)

    def stop(self) -> None:
        """Accept nothing more. The sockets stay open in the watchdog."""
        for watcher in self._watchers:
            watcher.stop()
        self._watchers.clear()

    def _accept(self, watcher: Any, sock: socket.socket, listener: int) -> None:
        family = sock.family
        for _ in range(ACCEPTS_PER_EVENT):
            is_full = self._connections.count() >= self.limits.max_connections
            if is_full and not self._make_room_for_one(watcher, sock, listener):
                return
            try:
                # `socket.accept` asks the kernel again for the family and type of the socket, which are known here.
                # That would make accepting twice as slow.
                fd, address = sock._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # The process is out of descriptors or memory: EMFILE, ENFILE, ENOBUFS or ENOMEM.
                if not self._make_room():
                    self._pause(os.strerror(error.errno or 0), watcher, sock, listener)
                    return
                continue
            host, port = address[:2] if isinstance(address, tuple) else ("", 0)
            if host.startswith(_MAPPED):
                # An IPv4 client on a socket that listens on `::` has a mapped address (RFC 4291 section 2.5.5.2).
                host = host[len(_MAPPED) :]
            self._add(socket.socket(family, socket.SOCK_STREAM, 0, fd), host, port, listener)

    def _add(self, client: socket.socket, address: str, port: int, listener: int) -> None:
        client.setblocking(False)
        if self.limits.has_too_many(address) and not self._connections.make_room_of(address):
            page = too_many_connections_page()
            self._connections.note_refused(address, _refuse_at_once(client, page), page)
            return
        self._connections.add(client, address, port, listener)

    def _make_room_for_one(self, watcher: Any, sock: socket.socket, listener: int) -> bool:
        """Whether a client that waits in the backlog may connect. Where none waits, no connection is closed."""
        if not has_input(sock.fileno()):
            return False
        if not self._make_room():
            self._pause(f"max_connections ({self.limits.max_connections}) is reached", watcher, sock, listener)
            return False
        return True

    def _make_room(self) -> int:
        closed = self._connections.close_longest_idle(self.limits.close_batch)
        if closed:
            _warn(self.limits.count_closed_idle(closed, self._clock()))
        return closed

    def _pause(self, reason: str, watcher: Any, sock: socket.socket, listener: int) -> None:
        """Accept nothing for a moment. Clients wait in the backlog."""
        _warn(self.limits.count_pause(reason, self._clock()))
        watcher.stop()
        gevent.spawn_later(PAUSE_SECONDS, self._resume, watcher, sock, listener)

    def _resume(self, watcher: Any, sock: socket.socket, listener: int) -> None:
        if watcher in self._watchers:
            watcher.start(self._accept, watcher, sock, listener)
            # Accept once without waiting for the watcher: some event loops report only a change to readable, and the
            # socket may have been readable all the time.
            self._accept(watcher, sock, listener)


def _warn(line: str | None) -> None:
    if line is not None:
        log.warning(line)


def too_many_connections_page() -> Response:
    """The response 429 for a client's address that has as many connections as it may have."""
    return error_response(429, detail="Too many connections from this address.", retry_after=RETRY_AFTER_SECONDS)


def _refuse_at_once(client: socket.socket, page: Response) -> bytes:
    """Send the response and close, without a greenlet: a client with too many connections is not waited for.

    Returns the bytes that the client had sent.
    """
    seen = b""
    with contextlib.suppress(OSError):
        # Read what has arrived first. Closing a socket with unread data sends a reset, and the client could lose the
        # response (RFC 9112 section 9.6).
        with contextlib.suppress(BlockingIOError):
            seen = client.recv(65536)
        client.send(serialize(page, keep_alive=False, head=None))
        client.shutdown(socket.SHUT_WR)
    client.close()
    return seen
