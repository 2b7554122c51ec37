"""The body of a request, read from its client while the application already has the beginning (`request_buffering`
off).

It waits for the client in greenlets, for as long and at the rate that the slow lane would allow. It knows one socket
and no processes.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from gevent.socket import wait_read

from appsrv.errors import ClientDisconnected, Limit, RequestError
from appsrv.http.body import body_reader
from appsrv.http.syntax import Limits, RequestHead
from appsrv.net.min_rate import MinRate

READ = 64 * 1024


@dataclass(frozen=True)
class BodyRate:
    """The longest pause of a client in seconds, and the lowest rate in bytes per second (0.0: any)."""

    pause: float = 60.0
    rate: float = 0.0


class StreamedInput:
    """`read` gives what has arrived. `complete`: the whole body was read; `rest`: the bytes after it."""

    def __init__(
        self, sock: socket.socket, head: RequestHead, data: bytes, limits: Limits, body_rate: BodyRate
    ) -> None:
        self._sock = sock
        self._reader = body_reader(head, limits)
        self._since = time.monotonic()
        self._min_rate = MinRate(body_rate.pause, body_rate.rate, self._since)
        self.rest = data

    @property
    def complete(self) -> bool:
        """Whether the whole body was read."""
        return self._reader.complete

    def read(self, _size: int = -1) -> bytes:
        """The next piece, of whatever size; b"" at the end.

        Raises RequestError (400, 408, 413) and ClientDisconnected.
        """
        while not self._reader.complete:
            data, self.rest = self.rest or self._receive(), b""
            piece, self.rest = self._reader.feed(data)
            if piece:
                return piece
        return b""

    def _receive(self) -> bytes:
        # The time that the application has taken to read does not count against the client.
        self._min_rate.extend(time.monotonic() - self._since)
        try:
            data = self._wait_and_receive()
        except TimeoutError as error:
            limit = Limit("body_timeout", self._min_rate.terms)
            raise RequestError(408, "The request body did not arrive in time", limit) from error
        except OSError as error:
            raise ClientDisconnected(str(error)) from error
        if not data:
            raise ClientDisconnected("the client closed the connection in the middle of a request")
        self._since = time.monotonic()
        self._min_rate.progress(len(data), self._since)
        return data

    def _wait_and_receive(self) -> bytes:
        while True:
            try:
                return self._sock.recv(READ)
            except BlockingIOError:
                wait_read(self._sock.fileno(), self._min_rate.left(time.monotonic()), TimeoutError("timed out"))
