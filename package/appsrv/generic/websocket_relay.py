"""Connections that are no longer HTTP: bytes from the client to the process behind the proxy, and back, until both end.

One relay for each, in the greenlet that has served the request, with one more for the other direction. Half-closes pass
through. Knows neither what is spoken nor who waits for what.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import gevent
from gevent.socket import wait_read, wait_write

from appsrv.net.tcp_reset import reset_when_closed

READ = 64 * 1024
# Seconds that a client may take to end its side once the process has ended its own.
FAREWELL = 30.0


class Relays:
    """The relays of a worker: `end` ends those there are, and those to come."""

    def __init__(self) -> None:
        self._running: set[UpgradedRelay] = set()
        self._ended = False

    def run(self, client: socket.socket, upstream: Any, first: bytes) -> bool:
        """Relay until it is over, `first` going to the client before anything else; False when it was cut short."""
        relay = UpgradedRelay(client, upstream)
        self._running.add(relay)
        try:
            return relay.run(first, at_once=self._ended)
        finally:
            self._running.discard(relay)

    def end(self) -> None:
        """This worker leaves: nobody waits for conversations that may never end."""
        self._ended = True
        for relay in list(self._running):
            relay.end()


class UpgradedRelay:
    """One connection; `upstream` is closed when it is over, the client's is its owner's to close."""

    def __init__(self, client: socket.socket, upstream: Any) -> None:
        self._client = client
        self._upstream = upstream
        self._whole = True
        self._inward: Any = None
        self._outward: Any = None

    def run(self, first: bytes, *, at_once: bool) -> bool:
        self._upstream.settimeout(None)
        self._outward = gevent.spawn(self._carry_out, first)
        self._inward = gevent.spawn(self._carry_in)
        try:
            if at_once:
                self.end()
            self._outward.join()
            self._inward.join(FAREWELL)
        finally:
            for greenlet in (self._inward, self._outward):
                greenlet.kill()
            if not self._whole:
                reset_when_closed(self._upstream)
            self._upstream.close()
        return self._whole

    def end(self) -> None:
        for greenlet in (self._outward, self._inward):
            greenlet.kill(block=False)

    def _carry_in(self) -> None:
        try:
            while data := _receive(self._client):
                self._upstream.sendall(data)
                gevent.sleep(0)  # Others want their turn, too, where neither side ever has to be waited for.
        except OSError:
            # One that has ended its side in order need not hear what is still said.
            if not self._outward.dead:
                self._fail()
            return
        with contextlib.suppress(OSError):
            self._upstream.shutdown(socket.SHUT_WR)

    def _carry_out(self, first: bytes) -> None:
        try:
            _send(self._client, first)
            while data := self._upstream.recv(READ):
                _send(self._client, data)
                gevent.sleep(0)
        except OSError:
            self._fail()
            return
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    def _fail(self) -> None:
        """One side was cut: the other is to see the same, and at once."""
        self._whole = False
        self.end()


def _receive(sock: socket.socket) -> bytes:
    while True:
        try:
            return sock.recv(READ)
        except BlockingIOError:
            wait_read(sock.fileno())


def _send(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            wait_write(sock.fileno())
