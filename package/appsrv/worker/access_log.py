"""The requests that a worker answers, for the access log, for the log of the application's framework, or for both.

It collects what a line needs from the connection, the environ and the outcome, and opens the log again when the server
asks for that. It knows neither formats nor files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from appsrv.app_process import own_lines
from appsrv.http.response import Response
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.logs.access_format import Entry
from appsrv.logs.access_log import AccessLog
from appsrv.net.arrival_time import StampedSocket
from appsrv.worker.ready_queue import Connection
from appsrv.wsgi.request_id import KEY
from appsrv.wsgi.run import CLIENT_LEFT, ResponseOutcome

# What a framework logs a request with: environ, status, length of the body in bytes, when it began (epoch).
LogRequest = Callable[[dict[str, Any], int, int, float], None]


class WorkerAccessLog:
    """Reports the requests of a worker to the framework's own log, to the access log, or to both."""

    def __init__(
        self, log: AccessLog | None, framework: LogRequest | None, board: Scoreboard, reopen_asked: memoryview
    ) -> None:
        self._log = log
        self._framework = framework
        self._framework_fails = False
        self._parked_since = board.parked_since
        self._reopen_asked = reopen_asked

    @property
    def needs_arrival_time(self) -> bool:
        """Whether the time at which a request arrived is logged, which costs a system call for each connection."""
        return self._log is not None

    def answered(
        self, connection: Connection, environ: dict[str, Any], outcome: ResponseOutcome, started: float
    ) -> None:
        """The application has answered. `started`: when it was called, in seconds since the epoch."""
        if self._framework is not None:
            self._log_to_framework(self._framework, environ, outcome, started)
        if self._log is None:
            return
        service = max(0.0, time.time() - started)
        entry = Entry(
            environ, request_line(environ), outcome.status or CLIENT_LEFT, outcome.body_bytes, started, service,
            self._queue_time(connection, started, service), environ.get(KEY) or outcome.error_id or "",
        )
        self._write(self._log, entry)

    def _log_to_framework(
        self, log_request: LogRequest, environ: dict[str, Any], outcome: ResponseOutcome, started: float
    ) -> None:
        try:
            log_request(environ, outcome.status, outcome.body_bytes, started)
            self._framework_fails = False
        except Exception as error:
            # The handlers of the framework's loggers are the application's, and so are the streams that they write to.
            if not self._framework_fails:
                own_lines.complain(f"the framework's own line about a request could not be logged: {error!r}")
            self._framework_fails = True

    def refused(self, connection: Connection, seen: bytes, response: Response) -> None:
        """The worker has refused the request."""
        if self._log is not None:
            self._reopen_if_asked()
            self._log.refused(connection.address, seen, response)

    def _write(self, log: AccessLog, entry: Entry) -> None:
        self._reopen_if_asked()
        log.write(entry)

    def _reopen_if_asked(self) -> None:
        if self._reopen_asked[0] and self._log is not None:
            self._reopen_asked[0] = 0
            self._log.reopen()

    def _queue_time(self, connection: Connection, started: float, service: float) -> float | None:
        """How long the request waited for this worker: since its bytes arrived, or since it was handed over."""
        sock = connection.sock
        if isinstance(sock, StampedSocket) and sock.arrived:
            # When a pipelined request arrived is not known.
            arrived, sock.arrived = sock.arrived, 0.0
            return max(0.0, started - arrived)
        handed_over = -self._parked_since(connection.cid)
        return max(0.0, time.monotonic() - service - handed_over) if handed_over > 0.0 else None


def request_line(environ: Mapping[str, Any]) -> str:
    """The first line of the request. The application may have changed the environ."""
    method, protocol = environ.get("REQUEST_METHOD", "-"), environ.get("SERVER_PROTOCOL", "")
    return f"{method} {environ.get('REQUEST_URI', '-')} {protocol}"
