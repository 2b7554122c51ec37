"""The end of a server: in which order, and until when, it waits for connections, requests and workers.

Knows how the steps follow each other, and how long each may take. It does not know why the server ends, and it ends
nothing itself: connections belong to the front end, workers to the application groups.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import gevent
import gevent.event

from appsrv.server.pool.handles import WorkerHandle
from appsrv.settings.table import Settings

log = logging.getLogger("appsrv.server")

UNGRACEFUL_SECONDS = 3.0
POLL_SECONDS = 0.02
# A killed process needs a moment until the watchdog has reaped it and has reported its exit.
REAP_SECONDS = 2.0
# A stop that takes no longer than this writes no line about what it waits for.
SILENT_SECONDS = 1.0
OVERDUE = "it did not end in the time that a stop has"


class FrontEndToStop(Protocol):
    """The front end, as far as a stop needs it."""

    def stop_accepting(self) -> None:
        """Accept no further connection."""

    def close_idle(self) -> None:
        """Close the connections on which no request is being read, served or answered."""

    def in_lanes(self) -> bool:
        """Whether the server itself still reads from or sends to a client."""


class Applications(Protocol):
    """The methods of `Groups` (all application groups) that a stop calls."""

    def announce_stop(self) -> None:
        """Have probes answer that the instance stops."""

    def count_waiting(self) -> int:
        """Requests that no worker has taken, counted now."""

    def busy(self) -> bool:
        """Whether a worker serves a request."""

    def close_all(self) -> None:
        """Start no process any more, let each worker finish and retire, and end the preloaders."""

    def kill_all(self, reason: str) -> None:
        """Kill all workers."""

    def workers_left(self, counts: Callable[[WorkerHandle], bool]) -> bool:
        """Whether there are workers for which `counts` is true."""


class Shutdown:
    """Ends the server once. `wait` returns when it is over.

    `tls_has_sent_all` tells whether the TLS relays have passed on what the server has sent.
    """

    def __init__(
        self, settings: Settings, clients: FrontEndToStop, applications: Applications,
        tls_has_sent_all: Callable[[], bool] = lambda: True, *, development: bool,
        clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = gevent.sleep,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._applications = applications
        self._tls_has_sent_all = tls_has_sent_all
        self._development = development
        self._clock = clock
        self._sleep = sleep
        self._orphaned = False
        self._running: gevent.Greenlet[..., None] | None = None
        self._over = gevent.event.Event()

    @property
    def begun(self) -> bool:
        """Whether the server is about to end."""
        return self._running is not None

    def wait(self) -> None:
        """Return when the server has ended."""
        self._over.wait()

    def begin(self, *, graceful: bool, orphaned: bool = False) -> None:
        """Begin to end; called again, with the time that is left to this call.

        `graceful`: requests have `stop_timeout` to be answered. `orphaned`: the watchdog has ended, so that nothing
        reports the exit of a worker any more: a worker whose channel is closed counts as ended.
        """
        if self._running is not None:
            self._running.kill(block=False)
        self._orphaned = self._orphaned or orphaned
        self._applications.announce_stop()
        settings = self._settings
        if graceful and settings.stop_delay:
            log.info("stopping in %g s (stop_delay): requests are accepted until then", settings.stop_delay)
            self._running = gevent.spawn(self._stop_later, settings.stop_delay, settings.stop_timeout)
        else:
            self._stop(settings.stop_timeout if graceful else UNGRACEFUL_SECONDS)

    def _stop_later(self, delay: float, seconds: float) -> None:
        self._sleep(delay)
        self._stop(seconds)

    def _stop(self, seconds: float) -> None:
        # At once, and not in the greenlet: the caller may close the listening sockets next.
        self._clients.stop_accepting()
        self._running = gevent.spawn(self._wind_down, self._clock() + seconds)

    def _wind_down(self, deadline: float) -> None:
        """Let the requests that have come be answered, until the deadline; then end."""
        # A worker of a development server ends its streams when it retires. A request that waits for one of these
        # streams would wait until the deadline, so it is not waited for.
        taken_by = self._clock() + SILENT_SECONDS if self._development else deadline - REAP_SECONDS
        self._until(self._all_taken, taken_by)
        self._applications.close_all()
        self._until(self._all_ended, min(deadline, self._clock() + SILENT_SECONDS))
        if self._applications.busy():
            log.warning("waiting for requests that are being served; Ctrl-C again ends them now")
        self._until(self._all_ended, deadline)
        if self._workers_left():
            self._applications.kill_all(OVERDUE)
        self._until(lambda: not self._clients.in_lanes() and self._tls_has_sent_all(), deadline)
        self._until(lambda: not self._workers_left(), self._clock() + REAP_SECONDS)
        self._over.set()

    def _all_taken(self) -> bool:
        """Close idle connections; whether no request waits for a worker or is being read."""
        self._clients.close_idle()
        return not self._applications.count_waiting() and not self._clients.in_lanes()

    def _all_ended(self) -> bool:
        """Close idle connections, since no worker takes their next requests; whether all workers have ended."""
        self._clients.close_idle()
        return not self._workers_left()

    def _workers_left(self) -> bool:
        return self._applications.workers_left(lambda worker: not (self._orphaned and worker.hung_up))

    def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition() and self._clock() < deadline:
            self._sleep(POLL_SECONDS)
