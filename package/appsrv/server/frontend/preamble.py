"""The header of PROXY protocol, which is a part of the preamble of a connection, and the order of the parts.

Reads exactly the header from a client's socket, in a greenlet of the front end, within a time limit. Knows one
connection at a time. `proxy_protocol` knows the format of the header.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence

from gevent.socket import wait_read

from appsrv.errors import ClientDisconnected, Limit, RequestError
from appsrv.http import proxy_protocol
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.server.frontend.parking import ClientConnection

log = logging.getLogger("appsrv.frontend")

# A client that connects again and again must not fill the log.
LOG_INTERVAL_SECONDS = 10.0


Step = Callable[[ClientConnection], None]


def in_order(steps: Sequence[Step]) -> Step:
    """A preamble that consists of these steps, one after the other."""

    def read_preamble(connection: ClientConnection) -> None:
        for step in steps:
            step(connection)

    return read_preamble


class ProxyHeaders:
    """Called with each new connection, before anything else is read: sets the address of the client.

    `seconds`: how long a header may take to arrive.
    """

    def __init__(self, proxies: TrustedProxies, seconds: float) -> None:
        self._proxies = proxies
        self._seconds = seconds
        self._log_again_at = 0.0

    def __call__(self, connection: ClientConnection) -> None:
        """Read the header. ClientDisconnected when it is invalid, late, or from an address that may not send one."""
        try:
            if not self._proxies.peer(connection.address):
                raise RequestError(400, "it is not among forwarded_allow_ips, which may speak PROXY protocol")
            header = _read(connection.sock, time.monotonic() + self._seconds)
        except TimeoutError as error:
            limit = Limit("header_timeout", f"{self._seconds:g} s")
            raise ClientDisconnected("its PROXY protocol header did not arrive in time", limit) from error
        except RequestError as error:
            self._log_refusal(connection.address or "the unix socket", error.reason)
            raise ClientDisconnected(error.reason) from error
        if header.address is not None:
            connection.address, connection.port = header.address, header.port

    def _log_refusal(self, peer: str, reason: str) -> None:
        now = time.monotonic()
        if now >= self._log_again_at:
            self._log_again_at = now + LOG_INTERVAL_SECONDS
            log.warning("a connection from %s was closed: %s", peer, reason)


def _read(sock: socket.socket, deadline: float) -> proxy_protocol.Header:
    """Read the header from the socket, and leave unread what follows it."""
    taken = b""
    while True:
        ahead = _peek(sock, deadline)
        header = proxy_protocol.parse(taken + ahead)
        # These bytes have been seen in the buffer, so that this reads all of them at once.
        taken += sock.recv(len(ahead) if header is None else header.length - len(taken))
        if header is not None:
            return header


def _peek(sock: socket.socket, deadline: float) -> bytes:
    while True:
        try:
            data = sock.recv(proxy_protocol.MAX_HEADER_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            wait_read(sock.fileno(), max(0.0, deadline - time.monotonic()), TimeoutError())
        except OSError as error:
            raise ClientDisconnected(str(error)) from error
        else:
            if not data:
                raise ClientDisconnected("closed before its PROXY protocol header was whole")
            return data


