"""Clients that go away while a worker serves them: found here, where all connections are, and told to the worker.

Looks at the connections of requests that take a while. A client whose connection is broken has gone. One that has
closed its sending side only may have gone, or wait for its answer (`nc -N`; RFC 9112 section 9.6), and TCP does not
tell one from the other: it is sent bytes without a meaning, to which the system of a client that has gone answers
with a reset. Before the response that is an interim response (RFC 9110 section 15.2), between two chunks a zero in
front of the next size (RFC 9112 section 7.1). The worker learns of it by its cell and closes the iterable at the next
step; a thread that does not come to one is named in the log when its worker is to end.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import gevent

from appsrv.backend import BackEnd
from appsrv.handles import WorkerHandle
from appsrv.parking import ENDED, GONE, ClientConnection, events_of
from appsrv.scoreboard import GONE as HAS_GONE
from appsrv.scoreboard import Cell, CellReading, without_query
from appsrv.workers import Workers

log = logging.getLogger("appsrv.clients")

# How old a request is before its client is looked after, how often that is done, and how long a worker that begins to
# send may take to be seen doing so.
AGE, PERIOD, SEEN_WITHIN = 0.5, 0.25, 0.01
_INTERIM, _LEADING_ZERO = b"HTTP/1.1 100 Continue\r\n\r\n", b"0"


def question(reading: CellReading) -> bytes:
    """What may be sent to this client now without a meaning; nothing where there is no such thing."""
    if reading.between_chunks:
        return _LEADING_ZERO
    return b"" if reading.response_begun or reading.http_1_0 else _INTERIM


class Disconnects:
    """Of one application group. `asks`: the server alone sends interim responses to its clients."""

    def __init__(self, group: str, workers: Workers, backend: BackEnd, *, asks: bool) -> None:
        self._group = group
        self._workers = workers
        self._backend = backend
        self._asks = asks
        self._looked = 0.0

    def check(self, now: float) -> None:
        """Look after the clients of what is being served, as of the last look at the scoreboard."""
        if now - self._looked < PERIOD:
            return
        self._looked = now
        served = {connection.cid: (connection, cell) for connection, cell in self._served(now)}
        for connection, events in events_of(connection for connection, _ in served.values()):
            if events & ENDED:
                self._departed(connection, served[connection.cid][1], gone=bool(events & GONE))

    def _served(self, now: float) -> Iterator[tuple[ClientConnection, Cell]]:
        for handle in self._workers.values():
            for number, (cid, started) in handle.in_progress.items():
                connection = self._backend.connections.get(cid)
                if connection is not None and not connection.lane and now - started >= AGE:
                    yield connection, handle.slot.cell(number)

    def _departed(self, connection: ClientConnection, cell: Cell, *, gone: bool) -> None:
        cell.say_departed(connection.cid, gone=gone)
        if not gone and self._asks and not connection.asked and question(cell.read()):
            connection.asked = True
            gevent.spawn(self._ask, connection, cell)

    def _ask(self, connection: ClientConnection, cell: Cell) -> None:
        before = cell.read()
        cell.put_question(True)
        try:
            gevent.sleep(SEEN_WITHIN)
            reading = cell.read()
            still = (reading.cid, reading.started) == (connection.cid, before.started) and not connection.lane
            what = question(reading) if still else b""
            connection.asked = bool(what)
            if what:
                with contextlib.suppress(OSError):
                    connection.sock.send(what)
        finally:
            cell.put_question(False)

    # -- at a worker's end --------------------------------------------------------------------------------------------

    def tell_of_gone(self, serial: int) -> None:
        """A worker is to end: name the requests in it whose clients have gone."""
        for handle, reading, age in self._readings(serial):
            if reading.client == HAS_GONE:
                log.warning(
                    "worker %d of %s still serves %s, whose client has gone, after %.1f s: the application is told "
                    "when it yields or writes the next time",
                    handle.pid, self._group, without_query(reading.request_line), age,
                )

    def _readings(self, serial: int) -> Iterator[tuple[WorkerHandle, CellReading, float]]:
        handle, now = self._workers.get(serial), time.monotonic()
        if handle is not None:
            busy = (reading for reading in handle.slot.read() if reading.cid)
            yield from ((handle, reading, now - reading.started) for reading in busy)
