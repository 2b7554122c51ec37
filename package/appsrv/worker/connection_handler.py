"""Serves a connection in a worker: reads a request, has the application answer it, and gives the connection away.

The handler knows the order of these steps. `http.head` knows HTTP, `wsgi.run` PEP 3333, and the ready queue where a
connection goes afterwards. A request that has not arrived whole is given back, so that no worker waits for a client.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, Any, Protocol

from appsrv.errors import ClientDisconnected, RequestError
from appsrv.http.body import body_reader
from appsrv.http.head import parse_head
from appsrv.http.response import Response, error_response, http_date, serialize
from appsrv.http.syntax import Limits, RequestHead
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.ipc.request_counts import Tally
from appsrv.ipc.scoreboard import Cell, CellReading
from appsrv.logs.limit_log import outcome_of
from appsrv.worker.ready_queue import MOST_INLINE_BYTES, Connection, ReadyQueue, Spooled
from appsrv.worker.response_writer import ResponseBuffer, ResponseWriter
from appsrv.wsgi import forwarded, removed_fields, underscored_fields
from appsrv.wsgi.environ import Environ, build_environ
from appsrv.wsgi.probe import PROBED
from appsrv.wsgi.run import CLIENT_LEFT, ResponseOutcome, respond

READ_BYTES = 64 * 1024
MOST_BODY_BYTES = 2 << 20

WSGIApplication = Callable[..., Any]


class RequestLog(Protocol):
    """The log of requests, as the handler needs it."""

    def answered(self, connection: Connection, environ: Environ, outcome: ResponseOutcome, started: float) -> None:
        """The application has answered. `started`: when it was called, in seconds since the epoch."""

    def refused(self, connection: Connection, seen: bytes, response: Response) -> None:
        """A request that breaks the rules was refused. It began with the bytes `seen`."""


@dataclass(frozen=True)
class HandlerOptions:
    """What all handlers of a worker share: the application, the limits, and one environ per listener to begin with.

    `proxies`: those that may tell the client's address and, with `underscores`, send field names with underscores.
    `reporter` is called for fields that are removed. `is_ours` tells whether a request is for this application, where a
    further request on the same connection may be for another one.
    """

    application: WSGIApplication
    limits: Limits
    environs: list[dict[str, Any]]
    development: bool
    keep_alive: bool = True
    access_log: RequestLog | None = None
    proxies: TrustedProxies = field(default_factory=lambda: TrustedProxies(()))
    buffer: ResponseBuffer = field(default_factory=ResponseBuffer)
    is_ours: Callable[[RequestHead], bool] | None = None
    underscores: bool = False
    reporter: removed_fields.Reporter | None = None


class ConnectionHandler:
    """The handler of one thread. It is made once and serves each connection that the thread takes.

    `tally`: where requests are counted, if they are.
    """

    def __init__(self, options: HandlerOptions, queue: ReadyQueue, cell: Cell, tally: Tally | None = None) -> None:
        self._options = options
        self._queue = queue
        self._cell = cell
        self._writer = ResponseWriter(cell, options.buffer)
        self._date = b""
        self._date_due = 0.0
        # Each request needs these. Read from `options`, they would cost it another look-up.
        self._limits = options.limits
        self._application = options.application
        self._environs = options.environs
        self._access_log = options.access_log
        self._tally = tally
        self._is_ours = options.is_ours
        self._observed = tally is not None or options.access_log is not None

    def serve(self, connection: Connection, now: float) -> None:
        """Answer what has arrived on the connection, then give the connection away. `now` is monotonic."""
        self._cell.begin(connection.cid, now)
        if now >= self._date_due:
            self._set_date(now)
        done = 0
        try:
            if connection.spooled is None:
                done = self._serve_data(connection, connection.sock.recv(READ_BYTES))
            else:
                done = self._serve_spooled(connection, connection.spooled)
        except BlockingIOError:
            self._queue.pass_on(connection)
        except RequestError as error:
            self._refuse(connection, error)
        except (ClientDisconnected, OSError):
            self._abandon(connection)
        # Any other exception ends the worker. The cell still names the connection then, and the server answers its
        # client with 502.
        self._cell.end(time.monotonic(), done)

    def progress(self) -> CellReading:
        """What this handler is doing. Other threads may ask."""
        return self._cell.read()

    def close_in_child(self) -> None:
        """In a child of this process: close the client's connection, for which the parent goes on to answer."""
        self._writer.close_in_child()

    def _serve_data(self, connection: Connection, data: bytes) -> int:
        """Answer the requests in `data`. A client may have sent several without waiting (pipelining)."""
        done = 0
        while data:
            self._cell.line(data)
            try:
                parsed = parse_head(data, self._limits)
            except RequestError as error:
                error.seen = data
                raise
            if parsed is None:
                self._queue.give_back(connection, data)
                return done
            head, offset = parsed
            if self._is_ours is not None and not self._is_ours(head):
                self._queue.give_back(connection, data)
                return done
            if head.body_expected:
                served = self._serve_body(connection, head, data, offset)
                if served is None:
                    return done
                more, data = served
            else:
                data = data[offset:]
                more = self._answer(connection, head, BytesIO(), None, bool(data))
            done += 1
            if not more:
                return done
        # The client has closed the connection.
        self._queue.close(connection)
        return done

    def _serve_body(
        self, connection: Connection, head: RequestHead, data: bytes, offset: int
    ) -> tuple[bool, bytes] | None:
        """Answer a request with a body.

        Returns whether to go on, and what follows the body; None when the connection was given away without an answer.
        """
        found = self._read_body(connection, head, data, offset)
        if found is None:
            return None
        body, rest = found
        return self._answer(connection, head, BytesIO(body), len(body), bool(rest)), rest

    def _read_body(
        self, connection: Connection, head: RequestHead, data: bytes, offset: int
    ) -> tuple[bytes, bytes] | None:
        """(body, what follows it); None when it has not arrived whole and the slow lane has the connection."""
        if head.content_length is not None and len(data) - offset >= head.content_length and not head.chunked:
            end = offset + head.content_length
            return data[offset:end], data[end:]
        reader = body_reader(head, self._options.limits)
        pieces, raw, rest = [], [data[:offset]], data[offset:]
        while True:
            raw.append(rest)
            body, rest = reader.feed(rest)
            pieces.append(body)
            if reader.complete:
                return b"".join(pieces), rest
            rest = self._receive_more(connection, head, reader.received)
            if not rest:
                self._queue.give_back(connection, b"".join(raw))
                return None

    def _receive_more(self, connection: Connection, head: RequestHead, received: int) -> bytes:
        """More of the body, if it has arrived; b"" when the slow lane is to read the rest."""
        if head.expect_continue or max(received, head.content_length or 0) > MOST_BODY_BYTES:
            return b""
        try:
            return connection.sock.recv(READ_BYTES)
        except OSError:
            return b""

    def _serve_spooled(self, connection: Connection, spooled: Spooled) -> int:
        connection.spooled = None
        parsed = parse_head(spooled.data, self._limits)
        assert parsed is not None, "the slow lane hands on whole heads"
        head, offset = parsed
        self._cell.line(spooled.data)
        end = offset + (spooled.body if spooled.file is None else 0)
        rest = spooled.data[end:]
        with _body_of(spooled, offset, end) as body:
            more = self._answer(connection, head, body, spooled.body if head.body_expected else None, bool(rest))
        return 1 + (self._serve_data(connection, rest) if more else 0)

    def _answer(
        self, connection: Connection, head: RequestHead, body: IO[bytes], length: int | None, more: bool
    ) -> bool:
        """Run the application; True when `more` has been read already, and this worker is to go on with it.

        `length` is that of `body`, None when the request has no body.
        """
        # Another thread finds this function on the stack and reads `self` and `connection` in its frame (module
        # `stream_cutter`). Neither may be renamed or be assigned another value here, and the call of the application
        # has to stay below this function. A dictionary of running requests would do the same, but would cost each
        # request two operations.
        writer = self._writer
        writer.sock = connection.sock
        if head.version != "1.1":
            self._cell.mark_http_1_0()
        if not self._options.keep_alive:
            head = head._replace(keep_alive=False)
        environ = build_environ(
            self._environs[connection.listener], head, body, length, connection.address, connection.port
        )
        if head.forwarded or head.underscored:
            self._check_fields(environ, head)
        if self._observed:
            outcome = self._respond_and_log(connection, environ, head)
        else:
            outcome = respond(self._application, environ, head, writer, self._date, self._options.development)
        if outcome.cut or writer.pending or not outcome.keep_alive:
            if isinstance(outcome.error, RequestError | ClientDisconnected):
                self._report_limit(connection, outcome.error)
            self._hand_over(connection, outcome, more)
            return False
        if more:
            self._begin_next(connection.cid)
        else:
            self._queue.park(connection, time.monotonic())
        return more

    def _check_fields(self, environ: Environ, head: RequestHead) -> None:
        """Use the fields that only a trusted proxy may send, or remove them, so that the application sees none of a
        stranger's.
        """
        peer, proxies = environ["REMOTE_ADDR"], self._options.proxies
        if head.underscored:
            self._check_underscores(environ, head, peer)
        if head.forwarded:
            self._report(removed_fields.UNTRUSTED, peer, forwarded.apply(environ, proxies))

    def _check_underscores(self, environ: Environ, head: RequestHead, peer: str) -> None:
        if self._options.underscores and self._options.proxies.peer(peer):
            found = underscored_fields.sort_out(head.headers, head.variables)
            environ.update(found.variables)
            environ[underscored_fields.KEY] = found.taken
            self._report(removed_fields.AMBIGUOUS, peer, found.refused)
            return
        why = removed_fields.UNTRUSTED_UNDERSCORE if self._options.underscores else removed_fields.UNDERSCORE
        self._report(why, peer, underscored_fields.names_of(head.headers))

    def _report(self, why: str, peer: str, names: list[str]) -> None:
        if names and self._options.reporter is not None:
            self._options.reporter.removed(why, peer, names)

    def _begin_next(self, cid: int) -> None:
        """A pipelined request has a time and a response of its own."""
        now = time.monotonic()
        self._cell.begin_next(cid, now)
        if now >= self._date_due:
            self._set_date(now)

    def _respond_and_log(self, connection: Connection, environ: Environ, head: RequestHead) -> ResponseOutcome:
        """As `respond`, and report the request to the logs and counters."""
        started = time.time() if self._access_log is not None else 0.0
        began = time.monotonic()
        outcome = respond(self._application, environ, head, self._writer, self._date, self._options.development)
        if PROBED in environ:
            return outcome
        if self._tally is not None:
            self._tally.count(outcome.status or CLIENT_LEFT, time.monotonic() - began)
        if self._access_log is not None:
            self._access_log.answered(connection, environ, outcome, started)
        return outcome

    def _hand_over(self, connection: Connection, outcome: ResponseOutcome, more: bool) -> None:
        """Give the connection away, or close it: it does not wait for its next request here.

        What has been read of a further request cannot be given along. The connection then ends after this response, and
        the client sends the request again (RFC 9112 section 9.3.2).
        """
        if outcome.cut:
            self._abandon(connection)
        elif self._writer.pending:
            first, files = self._writer.rest(MOST_INLINE_BYTES)
            self._queue.undelivered(connection, first, files, keep_alive=outcome.keep_alive and not more)
        else:
            self._queue.close(connection)
        self._writer.forget()

    def _refuse(self, connection: Connection, error: RequestError) -> None:
        """Answer a request that breaks the rules, and end the connection: where the next request would begin is
        unknown.
        """
        response = error_response(error.status, detail=error.detail(development=self._options.development))
        with contextlib.suppress(OSError):
            connection.sock.send(serialize(response, keep_alive=False, head=None))
        if self._tally is not None:
            self._tally.refused(response.status)
        if self._access_log is not None:
            self._access_log.refused(connection, error.seen or self._cell.first_bytes(), response)
        self._report_limit(connection, error)
        self._queue.close(connection, linger=True)

    def _report_limit(self, connection: Connection, error: RequestError | ClientDisconnected) -> None:
        if error.limit is not None:
            self._queue.limit_reached(connection, error.limit, outcome_of(error))

    def _abandon(self, connection: Connection) -> None:
        """End the connection with a reset, so that the client does not take an incomplete response for a whole one (RFC
        9112 section 8).
        """
        self._writer.forget()
        self._queue.close(connection, reset=True)

    def _set_date(self, now: float) -> None:
        """Make the Date field, which changes once a second."""
        wall = time.time()
        self._date = http_date(wall)
        self._date_due = now + 1.0 - wall % 1.0


def _body_of(spooled: Spooled, start: int, end: int) -> IO[bytes]:
    if spooled.file is None:
        return BytesIO(spooled.data[start:end])
    body = os.fdopen(spooled.file, "rb")
    body.seek(0)
    return body
