"""Serves a connection in a worker whose application is a process behind it: what is different there.

The handler gives the proxy access to the client's connection, takes over a connection that has switched protocols and,
where bodies are not buffered, has them read while they are passed on.
"""

from __future__ import annotations

import socket
import time
from typing import IO, Any, cast

from appsrv.generic.websocket_relay import Relays
from appsrv.http.syntax import RequestHead
from appsrv.ipc.request_counts import Tally
from appsrv.ipc.scoreboard import Cell
from appsrv.worker.connection_handler import ConnectionHandler, HandlerOptions
from appsrv.worker.ready_queue import Connection, ReadyQueue, Spooled
from appsrv.worker.response_writer import ResponseWriter
from appsrv.worker.streamed_input import BodyRate, StreamedInput
from appsrv.wsgi.environ import Environ
from appsrv.wsgi.run import ResponseOutcome
from appsrv.wsgi.upstream_hooks import KEY, Proxied


class ProxiedConnectionHandler(ConnectionHandler):
    """`relays` has the connections that have switched protocols. `body_rate` is for bodies; None: they are buffered."""

    def __init__(
        self, options: HandlerOptions, queue: ReadyQueue, cell: Cell, tally: Tally | None = None, *, relays: Relays,
        body_rate: BodyRate | None,
    ) -> None:
        super().__init__(options, queue, cell, tally)
        self._relays = relays
        self._body_rate = body_rate
        self._observed = True
        self._input: StreamedInput | None = None
        self._followed = False

    def _answer(
        self, connection: Connection, head: RequestHead, body: IO[bytes], length: int | None, more: bool
    ) -> bool:
        self._followed = more
        return super()._answer(connection, head, body, length, more)

    def _respond_and_log(self, connection: Connection, environ: Environ, head: RequestHead) -> ResponseOutcome:
        client = _Client(head, connection.sock, self._writer)
        client.streamed = self._input is not None
        # A further request is buffered already and could not be passed on, so that this connection cannot be upgraded.
        client.may_switch = not self._followed
        environ[KEY] = client
        outcome = super()._respond_and_log(connection, environ, head)
        if client.upstream is not None:
            self._cell.begun()
            self._cell.switched()
            outcome.cut = not self._relays.run(connection.sock, client.upstream, client.first)
        return outcome

    # -- bodies that are passed on as they come -----------------------------------------------------------------------

    def _serve_body(
        self, connection: Connection, head: RequestHead, data: bytes, offset: int
    ) -> tuple[bool, bytes] | None:
        if self._body_rate is None or _is_whole(head, data, offset):
            return super()._serve_body(connection, head, data, offset)
        limits, self._writer.sock = self._options.limits, connection.sock
        body = StreamedInput(connection.sock, head, data[offset:], limits, self._body_rate)
        self._input = body
        try:
            # Whether a further request has arrived is known only at the end of the body.
            on = self._answer(connection, head, cast("IO[bytes]", body), head.content_length, True)
        finally:
            self._input = None
        if not on:
            return False, b""
        if not body.complete:
            self._queue.close(connection, linger=True)
            return False, b""
        if not body.rest:
            self._queue.park(connection, time.monotonic())
        return bool(body.rest), body.rest

    def _serve_spooled(self, connection: Connection, spooled: Spooled) -> int:
        if spooled.body or spooled.file is not None or self._body_rate is None:
            return super()._serve_spooled(connection, spooled)
        # The slow lane has read the head only.
        connection.spooled = None
        return self._serve_data(connection, spooled.data)

    def _hand_over(self, connection: Connection, outcome: ResponseOutcome, more: bool) -> None:
        unread = self._input is not None and not self._input.complete
        if unread and not outcome.cut and not self._writer.pending:
            # The client is still sending. Close after what it sends has been read: a close with unread data would send
            # a reset, and the client could lose the response.
            self._queue.close(connection, linger=True)
            self._writer.forget()
        else:
            super()._hand_over(connection, outcome, more)


class _Client(Proxied):
    """The client's side of one request."""

    def __init__(self, head: RequestHead, sock: socket.socket, writer: ResponseWriter) -> None:
        super().__init__(head)
        self._sock = sock
        self._writer = writer
        self.upstream: Any = None
        self.first = b""

    def send_interim(self, data: bytes) -> None:
        self._writer.send_interim(data)

    def gone(self) -> bool:
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def switch(self, upstream: object, first: bytes) -> None:
        self.upstream, self.first = upstream, first


def _is_whole(head: RequestHead, data: bytes, offset: int) -> bool:
    return head.content_length is not None and len(data) - offset >= head.content_length
