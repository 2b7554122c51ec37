"""Relays upgraded connections (RFC 9110 section 7.8), such as WebSockets, between the client and the upstream.

Each direction of a connection has a greenlet, and the greenlet that has served the request waits for both. A half-close
of one side is passed on to the other. The relay does not interpret the bytes.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import gevent
from gevent.socket import wait_read, wait_write

from appsrv.net.tcp_reset import reset_when_closed

READ_BYTES = 64 * 1024
# The time that a client has to end its side after the upstream has ended its own.
CLIENT_CLOSE_SECONDS = 30.0


class Relays:
    """The relays of one worker. `end` ends the running ones, and makes later ones end at once."""

    def __init__(self) -> None:
        self._running: set[UpgradedRelay] = set()
        self._ended = False

    def run(self, client: socket.socket, upstream: Any, first: bytes) -> bool:
        """Relay until both sides have ended, and send the client `first` before the rest. False: it was cut off."""
        relay = UpgradedRelay(client, upstream)
        self._running.add(relay)
        try:
            return relay.run(first, ended_already=self._ended)
        finally:
            self._running.discard(relay)

    def end(self) -> None:
        """End all relays, because this worker is stopping: a WebSocket may stay open without end."""
        self._ended = True
        for relay in list(self._running):
            relay.end()


class UpgradedRelay:
    """One upgraded connection. It closes `upstream` at its end; the caller closes the client's socket."""

    def __init__(self, client: socket.socket, upstream: Any) -> None:
        self._client = client
        self._upstream = upstream
        self._complete = True
        self._to_upstream: Any = None
        self._to_client: Any = None

    def run(self, first: bytes, *, ended_already: bool) -> bool:
        self._upstream.settimeout(None)
        self._to_client = gevent.spawn(self._copy_to_client, first)
        self._to_upstream = gevent.spawn(self._copy_to_upstream)
        try:
            if ended_already:
                self.end()
            self._to_client.join()
            self._to_upstream.join(CLIENT_CLOSE_SECONDS)
        finally:
            for greenlet in (self._to_upstream, self._to_client):
                greenlet.kill()
            if not self._complete:
                reset_when_closed(self._upstream)
            self._upstream.close()
        return self._complete

    def end(self) -> None:
        for greenlet in (self._to_client, self._to_upstream):
            greenlet.kill(block=False)

    def _copy_to_upstream(self) -> None:
        try:
            while data := _receive(self._client):
                self._upstream.sendall(data)
                # If both sides are always ready, no call here waits, so other greenlets would not run.
                gevent.sleep(0)
        except OSError:
            # If the upstream has ended its side in order, it does not read the rest, and sending it may fail.
            if not self._to_client.dead:
                self._fail()
            return
        with contextlib.suppress(OSError):
            self._upstream.shutdown(socket.SHUT_WR)

    def _copy_to_client(self, first: bytes) -> None:
        try:
            _send(self._client, first)
            while data := self._upstream.recv(READ_BYTES):
                _send(self._client, data)
                gevent.sleep(0)
        except OSError:
            self._fail()
            return
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    def _fail(self) -> None:
        """One side was cut off. Cut off the other side at once, so that it does not look complete."""
        self._complete = False
        self.end()


def _receive(sock: socket.socket) -> bytes:
    while True:
        try:
            return sock.recv(READ_BYTES)
        except BlockingIOError:
            wait_read(sock.fileno())


def _send(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            wait_write(sock.fileno())
