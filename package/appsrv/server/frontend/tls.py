"""TLS for new connections: the handshake, and the certificate in use, which is read again when its files change.

After the handshake a `relay` stands between the client and everybody else. Knows one connection at a time.
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
from appsrv.server.frontend.tls_relay import TlsRelay, pace_of, retry

log = logging.getLogger("appsrv.tls")

# Seconds between two looks at the files.
CHECK_SECONDS = 5.0
_HANDSHAKE = 0x16


class Tls:
    """Called with each new connection on a TLS port. `certificate` and `key` are files; both in one: `key` is None.

    `too_slow` is told of a client that does not take in time what it gets.
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
        """Read certificate and key; where they cannot be used the previous ones stay, and the log says why."""
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
        """Load again whenever the files have changed and then stayed as they are for one check."""
        while True:
            gevent.sleep(CHECK_SECONDS)
            self.check()

    def check(self) -> None:
        """One check. Files are replaced one after the other, and are only together what they should be."""
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
        """Shake hands; afterwards `connection.sock` is plain, and its `cut` resets the client's connection.

        Raises ClientDisconnected when that fails, RequestError when it is HTTP without TLS.
        """
        context, left = self._context, pace_of(self._timeouts.header)
        if context is None:
            raise ClientDisconnected("there is no usable certificate")
        try:
            _check_first_byte(connection.sock, left)
            outside = context.wrap_socket(connection.sock, server_side=True, do_handshake_on_connect=False)
            connection.sock = outside
            retry(outside, outside.do_handshake, left)
        except OSError as error:
            # Scanners and clients without trust in the certificate are everyday: no line in the log.
            raise ClientDisconnected(str(error)) from error
        ours, theirs = _pair()
        relay = TlsRelay(
            outside, ours, self._timeouts, self._relays.discard, lambda error: self.too_slow(connection, error)
        )
        self._relays.add(relay)
        connection.sock, connection.cut = theirs, relay.cut

    def has_sent_all(self) -> bool:
        """Whether no client waits for anything that the rest of the server takes for sent."""
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
