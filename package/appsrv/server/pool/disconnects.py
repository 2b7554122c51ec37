"""Clients that disconnect while a worker serves them: found by the server, and marked in the worker's cell.

Polls the connections of requests that take a while. A client whose connection is broken has gone. A client that has
closed its sending side only may have gone, or may wait for its response (`nc -N`; RFC 9112 section 9.6): TCP shows no
difference. It is sent bytes without a meaning. The operating system of a client that has gone replies with a reset.
Before the response these bytes are an interim response (RFC 9110 section 15.2), between two chunks they are a zero in
front of the next chunk size (RFC 9112 section 7.1). The worker reads the mark in its cell and closes the iterable at
the next step. A request whose thread reaches no step is named in the log when its worker has to end.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import gevent

from appsrv.ipc.scoreboard import GONE as HAS_GONE
from appsrv.ipc.scoreboard import Cell, CellReading, without_query
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.frontend.parking import ENDED, GONE, ClientConnection, events_of
from appsrv.server.pool.handles import WorkerHandle
from appsrv.server.pool.workers import Workers

log = logging.getLogger("appsrv.clients")

# How old a request is before its client is checked, how often that is done, and after how long the mark of a worker
# that begins to send is certainly visible here.
MIN_AGE_SECONDS, CHECK_PERIOD_SECONDS, VISIBLE_SECONDS = 0.5, 0.25, 0.01
_INTERIM, _LEADING_ZERO = b"HTTP/1.1 100 Continue\r\n\r\n", b"0"


def question(reading: CellReading) -> bytes:
    """Bytes without a meaning that may be sent to this client now; empty where HTTP has none."""
    if reading.between_chunks:
        return _LEADING_ZERO
    return b"" if reading.response_begun or reading.http_1_0 else _INTERIM


class Disconnects:
    """The disconnects of one application group."""

    def __init__(
        self, group: str, workers: Workers, backend: BackEnd, *, probes: bool, now: Callable[[], float]
    ) -> None:
        """`probes`: whether half-closed clients are sent bytes; the application must send no interim responses."""
        self._group = group
        self._workers = workers
        self._backend = backend
        self._probes = probes
        self._now = now
        self._checked = 0.0

    def check(self, now: float) -> None:
        """Check the clients of the requests that were in progress at the last reading of the scoreboard."""
        if now - self._checked < CHECK_PERIOD_SECONDS:
            return
        self._checked = now
        served = {connection.cid: (connection, cell) for connection, cell in self._served(now)}
        for connection, events in events_of(connection for connection, _ in served.values()):
            if events & ENDED:
                self._mark_departed(connection, served[connection.cid][1], gone=bool(events & GONE))

    def _served(self, now: float) -> Iterator[tuple[ClientConnection, Cell]]:
        for handle in self._workers.values():
            for number, (cid, started) in handle.in_progress.items():
                connection = self._backend.connections.get(cid)
                if connection is not None and not connection.lane and now - started >= MIN_AGE_SECONDS:
                    yield connection, handle.slot.cell(number)

    def _mark_departed(self, connection: ClientConnection, cell: Cell, *, gone: bool) -> None:
        cell.mark_departed(connection.cid, gone=gone)
        if not gone and self._probes and not connection.asked and question(cell.read()):
            connection.asked = True
            gevent.spawn(self._probe, connection, cell)

    def _probe(self, connection: ClientConnection, cell: Cell) -> None:
        before = cell.read()
        cell.set_probing(True)
        try:
            gevent.sleep(VISIBLE_SECONDS)
            reading = cell.read()
            still = (reading.cid, reading.started) == (connection.cid, before.started) and not connection.lane
            what = question(reading) if still else b""
            connection.asked = bool(what)
            if what:
                with contextlib.suppress(OSError):
                    connection.sock.send(what)
        finally:
            cell.set_probing(False)

    # -- at a worker's end --------------------------------------------------------------------------------------------

    def log_departed(self, serial: int) -> None:
        """A worker has to end: log the requests in it whose clients have gone."""
        for handle, reading, age in self._readings(serial):
            if reading.client == HAS_GONE:
                log.warning(
                    "worker %d of %s still serves %s, whose client has disconnected, after %.1f s: the application "
                    "gets an error when it yields or writes the next time",
                    handle.pid, self._group, without_query(reading.request_line), age,
                )

    def _readings(self, serial: int) -> Iterator[tuple[WorkerHandle, CellReading, float]]:
        handle, now = self._workers.get(serial), self._now()
        if handle is not None:
            busy = (reading for reading in handle.slot.read() if reading.cid)
            yield from ((handle, reading, now - reading.started) for reading in busy)
