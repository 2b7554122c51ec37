"""A small HTTP client for tests: whole replies over TCP or a unix socket, and raw connections.

Independent of appsrv on purpose: the server must please a client that shares no code with it.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

TIMEOUT = 20.0
Address: TypeAlias = tuple[str, int] | str
Body: TypeAlias = bytes | Iterable[bytes] | BinaryIO


@dataclass(frozen=True)
class Reply:
    """A whole response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(address: Address, timeout: float = TIMEOUT) -> socket.socket:
    """A connection to a `(host, port)` or to the path of a unix socket."""
    if not isinstance(address, str):
        return socket.create_connection(address, timeout)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


class Connection(http.client.HTTPConnection):
    """One keep-alive connection; unlike its parent it never reconnects in silence."""

    auto_open = 0

    def __init__(self, address: Address, timeout: float = TIMEOUT) -> None:
        super().__init__("localhost", timeout=timeout)
        self.sock = connect(address, timeout)

    def exchange(
        self, method: str, target: str, body: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request, read the whole answer."""
        self.request(method, target, body, dict(headers or {}))
        response = self.getresponse()
        return Reply(response.status, response.headers, response.read())


def send(
    address: Address,
    method: str,
    target: str,
    body: Body | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Reply:
    """One request on a connection of its own."""
    connection = Connection(address, timeout)
    try:
        return connection.exchange(method, target, body, headers)
    finally:
        connection.close()


@dataclass(frozen=True)
class RawAnswer:
    """Everything a server sent on a connection; `reset` when it ended that with a reset instead of a close."""

    data: bytes
    reset: bool


def exchange_bytes(address: Address, sent: bytes, timeout: float = TIMEOUT) -> RawAnswer:
    """Bytes in, bytes out, until the server ends the connection."""
    received = bytearray()
    reset = False
    with connect(address, timeout) as connection:
        connection.sendall(sent)
        try:
            while block := connection.recv(65536):
                received += block
        except ConnectionResetError:
            reset = True
    return RawAnswer(bytes(received), reset)
