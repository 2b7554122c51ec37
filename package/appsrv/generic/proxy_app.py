"""The WSGI application in the place of one in another language: passes requests on to its process, and answers back.

Framing towards the client, keep-alive, slow clients and error pages are the worker's as with any application. Knows
PEP 3333 and an upstream's connections, neither the client's socket nor processes.
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

PIECE = 64 * 1024
_UNREADABLE = "The application gave an answer that is not HTTP. The reason is in the server log."
_NO_ANSWER = "The application ended the connection without an answer. The reason is in the server log."
_NOT_THERE = "The application does not take connections. The reason is in the server log."

StartResponse = Callable[..., Any]


class Upstream(Protocol):
    """The process that is asked."""

    command: str

    @property
    def connections(self) -> UpstreamConnections:
        """To that process."""

    def wait_for_end(self) -> None:
        """Returns soon, unless the process is about to end, or has: then never, for this one ends with it."""


class GenericApplication:
    """The callable of PEP 3333."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        proxied: Proxied = environ[KEY]
        turn = _Turn(self._upstream, request_of(environ), proxied, environ["wsgi.input"])
        response = turn.ask()
        if isinstance(response, h11.InformationalResponse):
            turn.switch(response)
            raise SwitchedProtocols
        return turn.answer(response, start_response)


class _Turn:
    """One request and its answer."""

    def __init__(self, upstream: Upstream, request: UpstreamRequest, proxied: Proxied, body: Any) -> None:
        self._upstream = upstream
        self._connections = upstream.connections
        self._request = request
        self._proxied = proxied
        self._body = body
        self._connection: UpstreamConnection | None = None
        self._begun = False
        self._read = 0

    def ask(self) -> ResponseHead | h11.InformationalResponse:
        """The head of the answer; UpstreamError when there is none."""
        response = self._try(self._open(lambda: self._connections.take(repeatable=self._is_repeatable())))
        if response is None:
            # The process has closed a connection that was idle, just as it was used again.
            response = self._try(self._open(self._connections.new))
        assert response is not None, "a new connection is not tried again"
        return response

    def _open(self, make: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        try:
            return make()
        except OSError as error:
            self._upstream.wait_for_end()
            raise self._failed(f"cannot be connected to: {error}", _NOT_THERE) from error

    def _try(self, connection: UpstreamConnection) -> ResponseHead | h11.InformationalResponse | None:
        """None when it may be tried again on another connection."""
        self._connection = connection
        try:
            response = connection.ask(self._request, self._pieces(), self._inform, self._look)
            if not connection.used and isinstance(response, ResponseHead):
                self._learn_timeout(response)
            return response
        except ConnectionLost as error:
            self.close()
            if connection.used and self._may_repeat(error):
                self._rewind()
                return None
            self._upstream.wait_for_end()
            raise self._failed(f"gave no answer: {error}", _NO_ANSWER) from error
        except BrokenResponse as error:
            self.close()
            raise self._failed(f"gave an answer that breaks HTTP/1.1: {error}", _UNREADABLE) from error
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
        """RFC 9110 section 9.2.2: what nobody has seen, or what changes nothing when it comes twice."""
        if self._proxied.streamed and self._read:
            return False
        return error.silent and (error.untouched or self._request.idempotent)

    def _rewind(self) -> None:
        if self._read:
            self._body.seek(0)
            self._read = 0

    def _pieces(self) -> Iterator[bytes]:
        while piece := self._body.read(PIECE):
            self._read += len(piece)
            yield piece

    # -- the answer ---------------------------------------------------------------------------------------------------

    def answer(self, response: ResponseHead, start_response: StartResponse) -> Iterable[bytes]:
        """Pass it on: whole where it has come whole, else as it comes."""
        assert self._connection is not None
        try:
            first, whole = self._connection.available()
            start_response(_status(response), _kept(response.fields, response.status_code))
        except (BrokenResponse, ApplicationError) as error:
            self.close()
            raise self._failed(f"gave an answer that breaks HTTP/1.1: {error}", _UNREADABLE) from error
        if whole:
            self._release()
            return [first]
        self._begun = True
        return StreamedBody(first, self._rest(), self.close)

    def _rest(self) -> Iterator[bytes]:
        assert self._connection is not None
        try:
            yield from self._connection.pieces(self._look)
        except ConnectionLost as error:
            self.close()
            self._upstream.wait_for_end()
            raise self._failed(f"left its answer unfinished: {error}", _NO_ANSWER) from error
        except BrokenResponse as error:
            raise self._failed(f"gave an answer that breaks HTTP/1.1: {error}", _UNREADABLE) from error
        self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        self._connections.give_back(connection)

    def close(self) -> None:
        """Whatever has not been released is not whole: the process is to see that nobody reads on."""
        if self._connection is not None:
            self._connections.drop(self._connection)
            self._connection = None

    def switch(self, response: h11.InformationalResponse) -> None:
        """The process speaks another protocol from now on; the connection is the client's alone."""
        connection, self._connection = self._connection, None
        assert connection is not None
        self._connections.lend(connection)
        if not self._request.upgrade:
            connection.close()
            raise self._failed("switched protocols without having been asked to", _UNREADABLE)
        self._proxied.switch(connection.sock, _interim(response, keep=True) + connection.left_over())

    def _inform(self, response: h11.InformationalResponse) -> None:
        # HTTP/1.0 does not know them (RFC 9110 section 15.2).
        if self._proxied.head.version == "1.1":
            self._proxied.inform(_interim(response))

    def _look(self) -> None:
        """Nothing has come for a while."""
        if self._begun and self._proxied.gone():
            raise ClientDisconnected("the client has gone")

    def _failed(self, what: str, page: str) -> UpstreamError:
        return UpstreamError(f"the application ({self._upstream.command}) {what}", page)


def _status(response: ResponseHead) -> str:
    return f"{response.status_code} {response.reason or reason_of(response.status_code)}"


def _kept(fields: list[tuple[str, str]], status: int) -> list[tuple[str, str]]:
    """The fields that go through, as they came."""
    dropped = HOP_BY_HOP_FIELDS
    for name, value in fields:
        if name.lower() == "connection":
            dropped = dropped.union(split_list(value))
    if status == 426:
        # It names what to upgrade to, and the client's next request for that goes through (RFC 9110 section 15.5.22).
        dropped = dropped.difference({"upgrade"})
    return [field for field in fields if field[0].lower() not in dropped]


def _interim(response: h11.InformationalResponse, *, keep: bool = False) -> bytes:
    """The bytes of a 1xx; `keep`: with the fields of the connection, which is handed over."""
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw_items()]
    lines = [f"HTTP/1.1 {response.status_code} {response.reason.decode('latin-1')}"]
    lines += [f"{name}: {value}" for name, value in (fields if keep else _kept(fields, response.status_code))]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
