"""A WSGI application that is a proxy: it passes requests on to the upstream process and returns its responses.

The worker handles framing towards the client, keep-alive, slow clients and error pages, as for every application. This
module knows PEP 3333 and the connections to the upstream; it knows neither the client's socket nor processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import h11

from appsrv.errors import ApplicationError, ClientDisconnected, UpstreamError
from appsrv.generic.connection import BrokenResponse, ConnectionLost, UpstreamConnection
from appsrv.generic.connection_pool import UpstreamConnections
from appsrv.generic.keepalive import announced_timeout
from appsrv.generic.request import UpstreamRequest, request_of
from appsrv.generic.response import ResponseHead
from appsrv.http.response import reason_of
from appsrv.http.syntax import HOP_BY_HOP_FIELDS, split_list
from appsrv.wsgi.environ import Environ
from appsrv.wsgi.upstream_hooks import KEY, Proxied, StreamedBody, SwitchedProtocols

__all__ = ["GenericApplication"]

log = logging.getLogger("appsrv.generic")

PIECE_BYTES = 64 * 1024
_INVALID_RESPONSE_PAGE = "The application gave an answer that is not HTTP. The reason is in the server log."
_NO_RESPONSE_PAGE = "The application ended the connection without an answer. The reason is in the server log."
_NO_CONNECTION_PAGE = "The application does not take connections. The reason is in the server log."

StartResponse = Callable[..., Any]


class Upstream(Protocol):
    """The upstream process, as the proxy needs it."""

    command: str

    @property
    def connections(self) -> UpstreamConnections:
        """The connections to the process."""

    def wait_for_end(self) -> None:
        """Wait briefly for the end of the process. If it ends, this never returns, because this worker ends with it."""


class GenericApplication:
    """The proxy as a WSGI callable (PEP 3333)."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        proxied: Proxied = environ[KEY]
        call = _UpstreamCall(self._upstream, request_of(environ), proxied, environ["wsgi.input"])
        response = call.send()
        if isinstance(response, h11.InformationalResponse):
            call.switch(response)
            raise SwitchedProtocols
        return call.answer(response, start_response)


class _UpstreamCall:
    """One request to the upstream and its response."""

    def __init__(self, upstream: Upstream, request: UpstreamRequest, proxied: Proxied, body: Any) -> None:
        self._upstream = upstream
        self._connections = upstream.connections
        self._request = request
        self._proxied = proxied
        self._body = body
        self._connection: UpstreamConnection | None = None
        self._streaming = False
        self._read_bytes = 0

    def send(self) -> ResponseHead | h11.InformationalResponse:
        """Send the request; the head of the response. Raises `UpstreamError` if there is none."""
        response = self._try(self._open(lambda: self._connections.take(repeatable=self._is_repeatable())))
        if response is None:
            # The process may close an idle connection at the moment when it is used again (RFC 9112 section 9.3.1). The
            # request did not cause this, so it is sent once more, on a new connection.
            response = self._try(self._open(self._connections.new))
        assert response is not None, "a new connection is not tried again"
        return response

    def _open(self, make: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        try:
            return make()
        except OSError as error:
            self._upstream.wait_for_end()
            raise self._error(f"cannot be connected to: {error}", _NO_CONNECTION_PAGE) from error

    def _try(self, connection: UpstreamConnection) -> ResponseHead | h11.InformationalResponse | None:
        """The response, or None if the request may be sent again on another connection. Raises `UpstreamError`."""
        self._connection = connection
        try:
            response = connection.request(self._request, self._pieces(), self._send_interim, self._check_client)
            if not connection.used and isinstance(response, ResponseHead):
                self._learn_timeout(response)
            return response
        except ConnectionLost as error:
            self.close()
            if connection.used and self._may_repeat(error):
                self._rewind()
                return None
            self._upstream.wait_for_end()
            raise self._error(f"gave no answer: {error}", _NO_RESPONSE_PAGE) from error
        except BrokenResponse as error:
            self.close()
            raise self._error(f"gave an answer that breaks HTTP/1.1: {error}", _INVALID_RESPONSE_PAGE) from error
        except BaseException:
            self.close()
            raise

    def _learn_timeout(self, response: ResponseHead) -> None:
        timeout = announced_timeout(response.fields)
        if timeout is not None:
            self._connections.announce_timeout(timeout)

    def _is_repeatable(self) -> bool:
        """Whether the request may be sent again although the process may have seen it (RFC 9110 section 9.2.2)."""
        return self._request.idempotent and not (self._proxied.streamed and self._request.length != 0)

    def _may_repeat(self, error: ConnectionLost) -> bool:
        """Whether the request may be sent again after this error (RFC 9110 section 9.2.2).

        The upstream must not have seen it, or it must be idempotent. A streamed body cannot be read a second time.
        """
        if self._proxied.streamed and self._read_bytes:
            return False
        return error.silent and (error.untouched or self._request.idempotent)

    def _rewind(self) -> None:
        if self._read_bytes:
            self._body.seek(0)
            self._read_bytes = 0

    def _pieces(self) -> Iterator[bytes]:
        while piece := self._body.read(PIECE_BYTES):
            self._read_bytes += len(piece)
            yield piece

    # -- the answer ---------------------------------------------------------------------------------------------------

    def answer(self, response: ResponseHead, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the response on: complete if it has arrived completely, else piece by piece. Raises `UpstreamError`."""
        assert self._connection is not None
        try:
            first, whole = self._connection.available()
            start_response(_status(response), _end_to_end(response.fields, response.status_code))
        except (BrokenResponse, ApplicationError) as error:
            self.close()
            raise self._error(f"gave an answer that breaks HTTP/1.1: {error}", _INVALID_RESPONSE_PAGE) from error
        if whole:
            self._release()
            return [first]
        self._streaming = True
        return StreamedBody(first, self._rest(), self.close)

    def _rest(self) -> Iterator[bytes]:
        assert self._connection is not None
        try:
            yield from self._connection.pieces(self._check_client)
        except ConnectionLost as error:
            self.close()
            self._upstream.wait_for_end()
            raise self._error(f"left its answer unfinished: {error}", _NO_RESPONSE_PAGE) from error
        except BrokenResponse as error:
            raise self._error(f"gave an answer that breaks HTTP/1.1: {error}", _INVALID_RESPONSE_PAGE) from error
        self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        self._connections.give_back(connection)

    def close(self) -> None:
        """Close the connection if its response was not read to the end; this shows the process that it was cut off."""
        if self._connection is not None:
            self._connections.drop(self._connection)
            self._connection = None

    def switch(self, response: h11.InformationalResponse) -> None:
        """Hand the connection over to the relay, because the process has switched protocols. Raises `UpstreamError`."""
        connection, self._connection = self._connection, None
        assert connection is not None
        self._connections.hand_over(connection)
        if not self._request.upgrade:
            connection.close()
            raise self._error("switched protocols without a request to upgrade", _INVALID_RESPONSE_PAGE)
        self._proxied.switch(connection.sock, _interim(response, keep=True) + connection.trailing_data())

    def _send_interim(self, response: h11.InformationalResponse) -> None:
        # A server must not send an interim response to an HTTP/1.0 client (RFC 9110 section 15.2).
        if self._proxied.head.version == "1.1":
            self._proxied.send_interim(_interim(response))

    def _check_client(self) -> None:
        """Called when no data has arrived for a while: stop a response whose client has disconnected."""
        if self._streaming and self._proxied.gone():
            raise ClientDisconnected("the client has disconnected")

    def _error(self, what: str, page: str) -> UpstreamError:
        return UpstreamError(f"the application ({self._upstream.command}) {what}", page)


def _status(response: ResponseHead) -> str:
    return f"{response.status_code} {response.reason or reason_of(response.status_code)}"


def _end_to_end(fields: list[tuple[str, str]], status: int) -> list[tuple[str, str]]:
    """The end-to-end fields, unchanged; hop-by-hop fields are dropped (RFC 9110 section 7.6.1)."""
    dropped = HOP_BY_HOP_FIELDS
    for name, value in fields:
        if name.lower() == "connection":
            dropped = dropped.union(split_list(value))
    if status == 426:
        # A 426 response must name the required protocol in Upgrade (RFC 9110 section 15.5.22), and the client's next
        # request for that protocol is passed on.
        dropped = dropped.difference({"upgrade"})
    return [field for field in fields if field[0].lower() not in dropped]


def _interim(response: h11.InformationalResponse, *, keep: bool = False) -> bytes:
    """The bytes of a 1xx response, without its hop-by-hop fields.

    `keep`: with them, for a 101: the client's connection itself passes to the upstream process.
    """
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw_items()]
    lines = [f"HTTP/1.1 {response.status_code} {response.reason.decode('latin-1')}"]
    lines += [f"{name}: {value}" for name, value in (fields if keep else _end_to_end(fields, response.status_code))]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
