"""The queue of requests that no worker has taken: how many may wait, for how long, and for which clients.

Decides by the readings of `load_monitor` and by `admission`; acts through the back end. The front end owns the
connections, the ready queue decides in which order workers take them.

The request of a client that has gone is dropped before a worker runs the application for it. A broken connection shows
that the client has gone. A client that has closed its sending side only may have gone, or may wait for its response
(shutdown(SHUT_WR) is legal and looks the same to TCP): it is sent an interim response (RFC 9110 section 15.2). The
operating system of a client that has gone replies with a reset.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping

from appsrv.http.response import Response
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.frontend.parking import ENDED, GONE, ClientConnection, Queued, events_of
from appsrv.server.pool.admission import LOG_AGAIN_SECONDS, Admission
from appsrv.server.pool.error_pages import busy_page, too_late_page
from appsrv.server.pool.load_monitor import LoadMonitor, View

log = logging.getLogger("appsrv.queue")

# How long a request has waited before its client is checked, and how often that is done.
CLIENT_CHECK_SECONDS = 0.25
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_PEEK_BYTES = 16 * 1024


class RequestQueue:
    """The queue of one application group."""

    def __init__(
        self, admission: Admission, monitor: LoadMonitor, backend: BackEnd, *, max_seconds: float,
        ready: Callable[[], list[int]], coming: Callable[[], int], now: Callable[[], float],
    ) -> None:
        """`max_seconds` is max_request_queue_time. `ready`, `coming`: see `Admission.excess`."""
        self.timed_out = 0
        self.abandoned = 0
        self._admission = admission
        self._max_seconds = max_seconds
        self._monitor = monitor
        self._backend = backend
        self._ready = ready
        self._coming = coming
        self._now = now
        self._clients_checked = 0.0
        self._log_late_at = 0.0

    @property
    def refused(self) -> int:
        """How many requests were answered 503 because the queue was full."""
        return self._admission.refused

    def admit(self) -> Response | None:
        """Admit a request that is about to be handed to the workers (None); or the 503 when the queue is full."""
        self._monitor.read_frequently()
        if not self._monitor.may_exceed(self._admission.most - 1):
            return None
        view = self._monitor.read()
        if not self._admission.excess(view, self._ready(), self._coming(), more=1):
            return None
        self._count_refused(1)
        return busy_page()

    def enforce_limits(self, view: View) -> None:
        """Refuse the requests that are too many, or have waited too long; drop those whose clients have gone."""
        if self._backend.fallback.active and view.waiting:
            # Such as a request that a worker had taken when it was killed, which is queued again later.
            self._backend.answer_waiting()
            return
        excess = self._admission.excess(view, self._ready(), self._coming())
        if excess:
            # Requests on parked connections reach the queue without `admit`.
            self._count_refused(self._backend.refuse_waiting(excess, busy_page()))
        if view.waiting:
            self._monitor.read_frequently()
            self._drop_late_and_gone(view.now)

    def waiting(self) -> list[tuple[ClientConnection, float]]:
        """The connections whose request waits, and since when, as of the last reading."""
        connections = self._backend.connections
        return [(connections[cid], since) for cid, since in self._backend.parking.queued() if cid in connections]

    def _count_refused(self, count: int) -> None:
        now = self._now()
        line = self._admission.count(count, now, lambda: now - min((since for _, since in self.waiting()), default=now))
        if line is not None:
            log.warning(line)

    def _drop_late_and_gone(self, now: float) -> None:
        limit = self._max_seconds
        if not limit and now - self._clients_checked < CLIENT_CHECK_SECONDS:
            return
        waiting = self.waiting()
        late = {c.cid for c, since in waiting if limit and now - since >= limit}
        gone: dict[int, int] = {}
        if now - self._clients_checked >= CLIENT_CHECK_SECONDS:
            self._clients_checked = now
            seen = events_of(c for c, since in waiting if now - since >= CLIENT_CHECK_SECONDS)
            gone = {c.cid: events for c, events in seen if events & GONE or (events & ENDED and not c.asked)}
        if late or gone:
            self._drop(late, gone, now)

    def _drop(self, late: set[int], gone: Mapping[int, int], now: float) -> None:
        # The whole queue is taken back, and the requests that stay are put back in the same order. This way a request
        # that a worker takes meanwhile is not among those that are answered here.
        timed_out = self.timed_out
        for item in list(self._backend.parking.take_back()):
            connection = self._backend.connections.get(item.cid)
            if connection is None:
                item.discard()
            elif gone.get(item.cid, 0) & GONE or (item.cid in gone and not _probe(connection, item)):
                self.abandoned += 1
                item.discard()
                self._backend.frontend.close(connection)
            elif item.cid in late:
                self.timed_out += 1
                item.discard()
                self._backend.frontend.refuse(connection, too_late_page())
            else:
                self._backend.parking.put_back(connection, item)
        if self.timed_out > timed_out and now >= self._log_late_at:
            self._log_late_at = now + LOG_AGAIN_SECONDS
            log.warning(
                "requests are answered 504: they have waited max_request_queue_time (%g s) for a free worker "
                "(%d so far, logged once a minute)", self._max_seconds, self.timed_out,
            )


def _probe(connection: ClientConnection, item: Queued) -> bool:
    """Send an interim response to a client that has closed its sending side; False when it has certainly gone."""
    connection.asked = True
    try:
        if _first_line(connection, item).endswith(b"HTTP/1.1"):
            connection.sock.send(_INTERIM)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _first_line(connection: ClientConnection, item: Queued) -> bytes:
    """The request line. HTTP/1.0 has no interim responses, so such a client counts as present."""
    data = item.read or connection.sock.recv(_PEEK_BYTES, socket.MSG_PEEK)
    return data.lstrip(b"\r\n").split(b"\r\n", 1)[0]
