"""The stop of an instance: in which order its processes end, how long each has, and what the watchdog returns.

1. The server finishes its requests, and its workers end. It is killed when its time is over.
2. The preloaders get SIGTERM. What the application has registered with atexit at its import runs in them now.
3. Workers that are left, of a server that died, get SIGTERM and then SIGKILL.

Knows the order and the deadlines; the processes are those of `children`.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable

from appsrv.errors import AppsrvError
from appsrv.logs.server_log import ServerLog
from appsrv.watchdog.children import Children
from appsrv.watchdog.process_table import ProcessTable
from appsrv.watchdog.service_reports import ServiceReports

SERVER_MARGIN_SECONDS = 5.0
"""How long the server may take beyond `stop_delay` and `stop_timeout` before it is killed."""

EXIT_SECONDS = 2.0
"""How long a process has at least between a signal that ends it and the next, stronger measure."""


class StopSequence:
    """The stop of one instance. `due` is when to call `check`, infinity when there is nothing to check.

    `begun` is whether it stops. `exit_code` is that of the watchdog, `failure` the error that it ends with, if any.
    """

    def __init__(
        self, *, children: Children, processes: ProcessTable, service: ServiceReports, log: ServerLog,
        graceful_seconds: float, clock: Callable[[], float],
    ) -> None:
        """`graceful_seconds`: how long the server may take for a graceful stop."""
        self._children = children
        self._processes = processes
        self._service = service
        self._log = log
        self._graceful_seconds = graceful_seconds
        self._clock = clock
        self._deadline = float("inf")
        self.begun = False
        self.exit_code = 0
        self.failure: AppsrvError | None = None
        self.due = float("inf")

    def begin(self, *, graceful: bool) -> None:
        """Have the server stop. Without `graceful` it does not wait for its requests."""
        self.begun = True
        self._service.stopping()
        allowed = self._graceful_seconds if graceful else 0.0
        self._deadline = self._clock() + allowed
        self.due = self._deadline + SERVER_MARGIN_SECONDS
        self._children.stop(graceful=graceful)

    def request(self) -> None:
        """Stop gracefully. Asked for again, in a stop that has begun, it does not begin the time anew."""
        if not self.begun:
            self.begin(graceful=True)

    def interrupt(self) -> None:
        """Ctrl-C: stop without waiting for requests; the second time, kill everything."""
        if self.begun:
            self._kill_everything()
        else:
            self.begin(graceful=False)

    def fail(self, failure: AppsrvError) -> None:
        """Stop at once because of an error that the command shows."""
        self.failure = failure
        self.begin(graceful=False)

    def end_with(self, exit_code: int) -> None:
        """Stop at once with this exit code."""
        self.exit_code = exit_code
        self.begin(graceful=False)

    def check(self) -> None:
        """Kill a server whose time is over."""
        pid = self._children.server.pid
        if pid is not None and self._clock() >= self.due:
            self.due = float("inf")
            self._log.event(logging.ERROR, f"the server {pid} does not stop and is killed")
            self._processes.send_signal(pid, signal.SIGKILL)

    def finish(self, turn: Callable[[], None]) -> None:
        """End the processes that are left once the server has ended. `turn` waits a moment and reaps."""
        self._end_preloaders(turn)
        self._end_workers(turn)

    def _end_preloaders(self, turn: Callable[[], None]) -> None:
        preloaders = self._children.preloaders
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._send_signal(preloaders.pids, number)
            deadline = self._clock() + EXIT_SECONDS
            if number == signal.SIGTERM and self.due < float("inf"):
                # Exit functions of the application have what the server left of the time of the stop.
                deadline = max(deadline, self._deadline)
            while (preloaders.pids or preloaders.standby.ending) and self._clock() < deadline:
                turn()

    def _end_workers(self, turn: Callable[[], None]) -> None:
        """A worker notices the death of its server at its channel, but maybe only after its current request.

        Without their preloader such workers are the watchdog's own children (`process_tree.become_subreaper`).
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = self._clock() + EXIT_SECONDS
            while (left := self._processes.workers()) and self._clock() < deadline:
                self._send_signal(left, number)
                turn()

    def _kill_everything(self) -> None:
        self._children.preloaders.refuse_requests()
        if self._children.server.pid is not None:
            self._send_signal(self._processes.descendants(), signal.SIGKILL)

    def _send_signal(self, pids: Iterable[int], number: int) -> None:
        for pid in pids:
            self._processes.send_signal(pid, number)
