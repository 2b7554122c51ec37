"""TLS for new connections: the handshake, and the certificate, which is read again when its files change.

After the handshake a `TlsRelay` is between the client and the rest of the server. This module knows one connection at a
time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from datetime import datetime, timezone

import gevent
from gevent.socket import wait_read

from appsrv.errors import CertificateError, ClientDisconnected, RequestError
from appsrv.net import certificates
from appsrv.server.frontend.lanes import Timeouts
from appsrv.server.frontend.parking import ClientConnection
from appsrv.server.frontend.tls_relay import TlsRelay, countdown, retry

log = logging.getLogger("appsrv.tls")

# Between two checks of the files.
CHECK_SECONDS = 5.0
_HANDSHAKE = 0x16


class Tls:
    """Called with each new connection on a TLS port. `certificate` and `key` are files; `key` is None where one file
    has both.

    `too_slow` is called for a client that takes a response too slowly.
    """

    def __init__(self, certificate: str, key: str | None, timeouts: Timeouts) -> None:
        self._files = (certificate, key)
        self._timeouts = timeouts
        self._relays: set[TlsRelay] = set()
        self.too_slow: Callable[[ClientConnection, ClientDisconnected], None] = lambda _connection, _error: None
        self._context: ssl.SSLContext | None = None
        self._loaded: object = None
        self._seen: object = None
        self.load()

    # -- certificates -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read certificate and key. Where they cannot be used, the previous ones stay in use, and the log has the
        reason.
        """
        self._loaded = self._seen = self._stamp()
        again = self._context is not None
        try:
            self._context = certificates.load(*self._files)
            expiry = certificates.expiry(self._files[0])
        except CertificateError as error:
            log.error("%s; %s", error, "the previous one stays in use" if again else "no TLS until that is mended")
            return
        if again:
            log.info("the certificate %s was read again; it expires %s", self._files[0], expiry.date())
        if expiry < datetime.now(timezone.utc):
            log.warning("the certificate %s expired on %s: clients will refuse it", self._files[0], expiry.date())

    def watch(self) -> None:
        """Load the files again when they have changed and have then stayed the same for one check."""
        while True:
            gevent.sleep(CHECK_SECONDS)
            self.check()

    def check(self) -> None:
        """Check once. Certificate and key are replaced one after the other, and fit together only when both are new."""
        stamp = self._stamp()
        if stamp == self._seen != self._loaded:
            self.load()
        self._seen = stamp

    def _stamp(self) -> object:
        stamps: list[object] = []
        for file in filter(None, self._files):
            with contextlib.suppress(OSError):
                found = os.stat(file)
                stamps.append((file, found.st_mtime_ns, found.st_ino, found.st_size))
        return stamps

    # -- connections --------------------------------------------------------------------------------------------------

    def __call__(self, connection: ClientConnection) -> None:
        """Do the handshake. Afterwards `connection.sock` carries plain text, and `connection.cut` resets the client's
        connection.

        Raises ClientDisconnected when the handshake fails, and RequestError when the client sends HTTP without TLS.
        """
        context, left = self._context, countdown(self._timeouts.header)
        if context is None:
            raise ClientDisconnected("there is no usable certificate")
        try:
            _check_first_byte(connection.sock, left)
            outside = context.wrap_socket(connection.sock, server_side=True, do_handshake_on_connect=False)
            connection.sock = outside
            retry(outside, outside.do_handshake, left)
        except OSError as error:
            # Port scanners, and clients that do not trust the certificate, are everyday events. They get no line in the
            # log.
            raise ClientDisconnected(str(error)) from error
        ours, theirs = _pair()
        relay = TlsRelay(
            outside, ours, self._timeouts, self._relays.discard, lambda error: self.too_slow(connection, error)
        )
        self._relays.add(relay)
        connection.sock, connection.cut = theirs, relay.cut

    def has_sent_all(self) -> bool:
        """Whether the relays have passed on all that the rest of the server has sent."""
        return all(relay.sent_all for relay in self._relays)


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def _check_first_byte(sock: socket.socket, left: Callable[[float], float]) -> None:
    while True:
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            wait_read(sock.fileno(), left(time.monotonic()), TimeoutError("timed out"))
            continue
        if first and first[0] != _HANDSHAKE:
            if first.isalpha():
                raise RequestError(400, "This port speaks HTTPS: the request came without TLS")
            raise ClientDisconnected("neither TLS nor HTTP")
        return
