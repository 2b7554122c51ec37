"""The routes of the admin socket (see `endpoint`): joins each one with the part of the server that answers it. Decides
nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gevent

from appsrv import metrics
from appsrv.errors import OperatorError
from appsrv.ipc import messages
from appsrv.ipc.message_format import Message
from appsrv.server.admin.endpoint import Admin, Answer, Route, Text
from appsrv.server.admin.monitoring import Monitoring
from appsrv.server.admin.report import Report, requests
from appsrv.server.pool.groups import Groups
from appsrv.server.pool.handles import RestartOutcome
from appsrv.server.pool.manager import Manager

POLL_SECONDS = 0.02
# Beyond `stop_timeout`: the time until a killed worker has been reaped.
KILL_SECONDS = 2.0



class Restart(Protocol):
    """Restarts one group."""

    def __call__(self, group: Manager, parallel: int | None, *, stop_first: bool) -> RestartOutcome:
        """Restart with `parallel` workers at a time; or, with `stop_first`, when the old workers have ended."""


class AdminRoutes:
    """`restart` restarts one group, `send_to_watchdog` sends a message to the watchdog, `reopen` opens the access logs
    again.
    """

    def __init__(
        self, groups: Groups, report: Report, restart: Restart, reopen: Callable[[], None],
        send_to_watchdog: Callable[[Message], None],
    ) -> None:
        self._groups = groups
        self._report = report
        self._restart_one = restart
        self._reopen = reopen
        self._send_to_watchdog = send_to_watchdog

    def serve(self, sock: socket.socket) -> None:
        """Answer on this listening socket."""
        Admin(sock, self.table()).start()

    def table(self) -> dict[tuple[str, str], Route]:
        """The function that answers, by method and path."""
        return {
            ("GET", "/status"): lambda _: (200, self.status()),
            ("GET", "/requests"): lambda _: (200, {"requests": self._requests()}),
            ("GET", "/metrics"): lambda _: self._metrics(),
            ("POST", "/restart"): self._restart,
            ("POST", "/detach"): self._detach,
            ("POST", "/stop"): lambda _: self._send(messages.StopInstance()),
            ("POST", "/reopen-logs"): self._reopen_logs,
        }

    def monitor(self, sockets: Sequence[socket.socket], *, own_metrics: bool, several: bool) -> None:
        """Serve the metrics port.

        `own_metrics`: with the applications' own metrics; `several`: whether there may be several applications.
        """
        applications = (lambda: self._own_metrics(several)) if own_metrics else None
        Monitoring(list(sockets), self._current_status, metrics.exposition, applications).start()

    def _own_metrics(self, several: bool) -> tuple[str, bytes]:
        directories = {name: manager.multiproc for name, manager in self._groups.items() if manager.multiproc}
        if several or len(directories) != 1:
            return metrics.of_applications(directories)
        (directory,) = directories.values()
        return metrics.of_application(directory)

    def status(self) -> dict[str, Any]:
        """The report, with the lengths of the queues at the load monitor's last reading."""
        return self._report.build(list(self._groups.values()), self._groups.problems)

    def _current_status(self) -> dict[str, Any]:
        self._groups.count_waiting()
        return self.status()

    def _metrics(self) -> Answer:
        try:
            metrics.check("/metrics")
        except OperatorError as error:
            return 501, {"error": str(error)}
        return 200, Text(*metrics.exposition(self._current_status()))

    def _requests(self) -> list[dict[str, Any]]:
        self._groups.count_waiting()
        found = [request for manager in self._groups.values() for request in requests(manager)]
        return sorted(found, key=lambda request: -request["age"])

    def _restart(self, arguments: Mapping[str, Any]) -> Answer:
        prefix = arguments.get("prefix")
        if not isinstance(prefix, str):
            return 400, {"error": "prefix is missing"}
        parallel = arguments.get("parallel")
        if parallel is not None and not (isinstance(parallel, int) and parallel > 0):
            return 400, {"error": "parallel has to be a whole number above 0"}
        stop_first = arguments.get("stop_first", False)
        if not isinstance(stop_first, bool):
            return 400, {"error": "stop_first has to be true or false"}
        # One after the other: all at once would load all applications at once.
        outcomes = [
            (manager.name, self._restart_one(manager, parallel, stop_first=stop_first))
            for manager in self._groups.below(prefix)
        ]
        return 200, {"restarted": [{"name": name, **outcome.__dict__} for name, outcome in outcomes]}

    def _detach(self, arguments: Mapping[str, Any]) -> Answer:
        pid = arguments.get("pid")
        manager = self._groups.of_worker(pid) if isinstance(pid, int) else None
        serial = manager.detach(pid) if manager is not None and isinstance(pid, int) else None
        if manager is None or serial is None:
            owner = ", ".join(self._groups) if len(self._groups) == 1 else "any application here"
            return 404, {"error": f"process {pid} is not a worker of {owner}"}
        settings = manager.settings
        deadline = time.monotonic() + settings.start_timeout + settings.stop_timeout + KILL_SECONDS
        while serial in manager.workers and time.monotonic() < deadline:
            gevent.sleep(POLL_SECONDS)
        if serial in manager.workers:
            return 200, {"detached": False, "message": f"worker {pid} serves on: no successor has become ready yet"}
        return 200, {"detached": True}

    def _reopen_logs(self, _arguments: Mapping[str, Any]) -> Answer:
        self._reopen()
        return self._send(messages.ReopenLogs())

    def _send(self, msg: Message) -> Answer:
        self._send_to_watchdog(msg)
        return 202, {}
