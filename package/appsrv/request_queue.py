"""The queue of requests that no worker has taken: how many may wait, for how long, and for whom.

Decides by what `lookout` has seen and `admission` says; acts through the back end. The connections stay the front
end's, the order in which workers take them is the ready queue's.

A client that has gone is dropped before a worker runs the application for nobody. That is plain when the connection is
broken. When only the client's sending side is closed, it may have gone, or wait for its answer (shutdown(SHUT_WR) is
legal, and looks the same): it is asked, with an interim response (RFC 9110 section 15.2), to which the system of a
client that has gone answers with a reset.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping

from appsrv.admission import SAY_AGAIN, Admission
from appsrv.backend import BackEnd
from appsrv.http_response import Response
from appsrv.lookout import Lookout, View
from appsrv.parking import ENDED, GONE, ClientConnection, Queued, events_of
from appsrv.refusals import busy_page, too_late_page

log = logging.getLogger("appsrv.queue")

# How long a request has waited before its client is looked after, and how often that is done.
PATIENCE = 0.25
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_PEEK = 16 * 1024


class RequestQueue:
    """The queue of one application group. `ready`: workers that serve; `coming`: requests that more could take."""

    def __init__(
        self, admission: Admission, most_time: float, lookout: Lookout, backend: BackEnd,
        ready: Callable[[], list[int]], coming: Callable[[], int],
    ) -> None:
        self.timed_out = 0
        self.abandoned = 0
        self._admission = admission
        self._most_time = most_time
        self._lookout = lookout
        self._backend = backend
        self._ready = ready
        self._coming = coming
        self._looked_after = 0.0
        self._say_at = 0.0

    @property
    def refused(self) -> int:
        """Requests that were answered 503 because the queue was full."""
        return self._admission.refused

    def admit(self) -> Response | None:
        """A request is about to be handed over: None, or the answer to refuse it with because the queue is full."""
        self._lookout.nudge()
        if not self._lookout.may_exceed(self._admission.most - 1):
            return None
        view = self._lookout.look()
        if not self._admission.excess(view, self._ready(), self._coming(), more=1):
            return None
        self._say_refused(1)
        return busy_page()

    def look_after(self, view: View) -> None:
        """Refuse those that are too many, give up those that have waited too long, drop those nobody waits for."""
        if self._backend.fallback.active and view.waiting:
            # As one that a worker had taken when it was killed, and which was found later.
            self._backend.stand_in_for_waiting()
            return
        excess = self._admission.excess(view, self._ready(), self._coming())
        if excess:
            # Requests on parked connections come without asking.
            self._say_refused(self._backend.refuse_waiting(excess, busy_page()))
        if view.waiting:
            self._lookout.nudge()
            self._weed(view.now)

    def waiting(self) -> list[tuple[ClientConnection, float]]:
        """The connections whose request waits, and since when, as of the last look."""
        connections = self._backend.connections
        return [(connections[cid], since) for cid, since in self._backend.parking.queued() if cid in connections]

    def _say_refused(self, count: int) -> None:
        now = time.monotonic()
        line = self._admission.count(count, now, lambda: now - min((since for _, since in self.waiting()), default=now))
        if line is not None:
            log.warning(line)

    def _weed(self, now: float) -> None:
        limit = self._most_time
        if not limit and now - self._looked_after < PATIENCE:
            return
        waiting = self.waiting()
        late = {c.cid for c, since in waiting if limit and now - since >= limit}
        gone: dict[int, int] = {}
        if now - self._looked_after >= PATIENCE:
            self._looked_after = now
            seen = events_of(c for c, since in waiting if now - since >= PATIENCE)
            gone = {c.cid: events for c, events in seen if events & GONE or (events & ENDED and not c.asked)}
        if late or gone:
            self._go_through(late, gone, now)

    def _go_through(self, late: set[int], gone: Mapping[int, int], now: float) -> None:
        # All of it, and then back in the same order: what a worker takes meanwhile is not among it.
        timed_out = self.timed_out
        for item in list(self._backend.parking.take_back()):
            connection = self._backend.connections.get(item.cid)
            if connection is None:
                item.discard()
            elif gone.get(item.cid, 0) & GONE or (item.cid in gone and not _ask(connection, item)):
                self.abandoned += 1
                item.discard()
                self._backend.frontend.close(connection)
            elif item.cid in late:
                self.timed_out += 1
                item.discard()
                self._backend.frontend.refuse(connection, too_late_page())
            else:
                self._backend.parking.put_back(connection, item)
        if self.timed_out > timed_out and now >= self._say_at:
            self._say_at = now + SAY_AGAIN
            log.warning(
                "requests are answered 504: they have waited max_request_queue_time (%g s) for a free worker "
                "(%d so far, logged once a minute)", self._most_time, self.timed_out,
            )


def _ask(connection: ClientConnection, item: Queued) -> bool:
    """Ask a client that sends nothing more whether it is there; False when it is known to be away."""
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
    """The request line. HTTP/1.0 knows no interim responses: such a client is believed to be there."""
    data = item.read or connection.sock.recv(_PEEK, socket.MSG_PEEK)
    return data.lstrip(b"\r\n").split(b"\r\n", 1)[0]
