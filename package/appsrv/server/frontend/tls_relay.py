"""A relay between a client's TLS socket and one end of a socket pair: two greenlets, one for each direction.

The rest of the server uses the other end as a plain connection. Half-closes, ends and resets are passed on: an
incomplete response ends with a reset and never with close_notify. The relay knows neither HTTP nor what is at either
end.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.socket import wait_read, wait_write

from appsrv.errors import ClientDisconnected
from appsrv.net.min_rate import DeliveredBytes, MinRate
from appsrv.net.tcp_reset import reset_when_closed
from appsrv.server.frontend.lanes import LINGER_BYTES, LINGER_SECONDS, RATE_CHECKS, Timeouts, wait_writable
from appsrv.system.readiness import has_input

READ = 64 * 1024
RESET_CHECK_SECONDS = 0.25


class TlsRelay:
    """Owns both sockets and closes them at its end.

    `over` is called with the relay at its end, `too_slow` when the client takes too slowly what it is sent.
    """

    def __init__(
        self, outside: ssl.SSLSocket, inside: socket.socket, timeouts: Timeouts, over: Callable[[TlsRelay], None],
        too_slow: Callable[[ClientDisconnected], None],
    ) -> None:
        self._outside = outside
        self._inside = inside
        self._timeouts = timeouts
        self._over = over
        self._too_slow = too_slow
        self._running = 2
        self._sending = False
        self._inward = gevent.spawn(self._carry_in)
        self._outward = gevent.spawn(self._carry_out)
        for greenlet in (self._inward, self._outward):
            # Called in the hub, and also for a greenlet that is killed before it has run.
            greenlet.rawlink(self._ended)

    def cut(self) -> None:
        """Reset the client's connection, so that the client does not take an incomplete response for a whole one."""
        reset_when_closed(self._outside)
        self._outward.kill(block=False)

    @property
    def sent_all(self) -> bool:
        """Whether the kernel has been given all data for the client."""
        return not self._sending and (self._inside.fileno() < 0 or not has_input(self._inside.fileno()))

    def _ended(self, greenlet: object) -> None:
        self._running -= 1
        if greenlet is self._outward:
            self._sending = False
            self._inward.kill(block=False)
        if not self._running:
            self._outside.close()
            self._inside.close()
            self._over(self)

    # -- from the client ----------------------------------------------------------------------------------------------

    def _carry_in(self) -> None:
        how = socket.SHUT_WR
        try:
            while data := retry(self._outside, lambda: self._outside.recv(READ)):
                view = memoryview(data)
                while view:
                    view = view[self._send_in(view) :]
        except OSError:
            # A reset, or invalid TLS records. No response can reach the client.
            how = socket.SHUT_RDWR
        with contextlib.suppress(OSError):
            self._inside.shutdown(how)
        if how == socket.SHUT_WR:
            self._wait_for_reset()

    def _wait_for_reset(self) -> None:
        """After the client's half-close: notice when the client is gone altogether, and pass that on.

        A client that only sends nothing more accepts data. One that has closed its socket answers data with a reset
        (RFC 9293 section 3.10.7).
        """
        poll = select.poll()
        poll.register(self._outside.fileno(), 0)
        while not poll.poll(0):
            gevent.sleep(RESET_CHECK_SECONDS)
        with contextlib.suppress(OSError):
            self._inside.shutdown(socket.SHUT_RDWR)

    def _send_in(self, data: memoryview) -> int:
        while True:
            try:
                return self._inside.send(data)
            except BlockingIOError:
                wait_write(self._inside.fileno())

    # -- to the client ------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        try:
            while data := self._receive():
                self._sending = True
                self._send_out(data)
                self._sending = False
            self._sending = True
            self._inward.kill()
            self._send_close_notify()
        except ClientDisconnected as error:
            self._too_slow(error)
            reset_when_closed(self._outside)
        except OSError:
            reset_when_closed(self._outside)

    def _receive(self) -> bytes:
        while True:
            try:
                return self._inside.recv(READ)
            except BlockingIOError:
                wait_read(self._inside.fileno())
            except ConnectionResetError:
                # The other end was closed with unread data, which resets a socket pair. A response that had to be cut
                # was cut before, by `cut`, so that this is an orderly end.
                return b""

    def _send_out(self, data: bytes) -> None:
        view = memoryview(data)
        delivered = DeliveredBytes(self._outside)
        min_rate = MinRate(self._timeouts.drain, self._timeouts.rate, time.monotonic())
        while view:
            try:
                sent = self._outside.send(view)
            except ssl.SSLWantReadError:
                wait_read(self._outside.fileno(), min_rate.left(time.monotonic()), TimeoutError("timed out"))
            except (ssl.SSLWantWriteError, BlockingIOError):
                wait_writable(self._outside, min_rate, delivered, self._timeouts.drain / RATE_CHECKS)
            else:
                delivered.add_sent(sent)
                view = view[sent:]

    def _send_close_notify(self) -> None:
        """Send close_notify (RFC 8446 section 6.1) and the end of TCP, and discard for a while what the client still
        sends.
        """
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLError):
            # `unwrap` sends our close_notify and then wants to read the client's, for which nothing has to wait.
            retry(self._outside, self._outside.unwrap, countdown(LINGER_SECONDS), reads=False)
        with contextlib.suppress(OSError):
            self._outside.shutdown(socket.SHUT_WR)
        self._inside.close()
        self._sending = False
        left, until = LINGER_BYTES, countdown(LINGER_SECONDS)
        with contextlib.suppress(OSError):
            while left > 0:
                # Read below TLS: the records are discarded, and need not be decrypted.
                data = retry(self._outside, lambda: socket.socket.recv(self._outside, READ), until)
                if not data:
                    return
                left -= len(data)


def countdown(seconds: float) -> Callable[[float], float]:
    """A function that gives how much is left of so many seconds from now on, by the time."""
    deadline = time.monotonic() + seconds
    return lambda now: max(0.0, deadline - now)


def retry(
    sock: ssl.SSLSocket, call: Callable[[], Any], left: Callable[[float], float] | None = None, *, reads: bool = True
) -> Any:
    """Call `call` and wait for the socket as often as it has to. TimeoutError when no time is `left`.

    `reads`: whether to wait for the other side to send something; otherwise SSLWantReadError is raised.
    """
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            if not reads:
                raise
            wait = wait_read
        except ssl.SSLWantWriteError:
            wait = wait_write
        except BlockingIOError:
            wait = wait_read
        wait(sock.fileno(), None if left is None else left(time.monotonic()), TimeoutError("timed out"))
