"""The admin socket and the metrics port of a server: when they begin to answer, and with which routes.

The modules that answer are imported only when the service starts, so that the first request does not wait for them.
This module knows sockets. `routes` knows the answers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from appsrv.ipc import messages
from appsrv.ipc.message_format import Message
from appsrv.server.frontend.frontend import FrontEnd
from appsrv.server.pool.groups import Groups
from appsrv.settings.table import Settings

if TYPE_CHECKING:
    from appsrv.server.admin.routes import AdminRoutes, Restart


class AdminService:
    """`send_to_watchdog` sends a message to the watchdog."""

    def __init__(
        self, settings: Settings, configure: messages.Configure, frontend: FrontEnd, groups: Groups,
        send_to_watchdog: Callable[[Message], None], metrics_sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._settings = settings
        self._configure = configure
        self._frontend = frontend
        self._groups = groups
        self._send_to_watchdog = send_to_watchdog
        self._metrics_sockets = metrics_sockets
        self._waiting: socket.socket | None = None
        self._routes: AdminRoutes | None = None

    def start(self, restart: Restart, reopen_logs: Callable[[], None]) -> None:
        """Answer from now on. `restart` restarts one application, `reopen_logs` opens the access logs again."""
        from appsrv.server.admin.report import Report
        from appsrv.server.admin.routes import AdminRoutes

        configure = self._configure
        report = Report(configure.instance, configure.restarts, self._settings, self._frontend)
        routes = AdminRoutes(self._groups, report, restart, reopen_logs, self._send_to_watchdog)
        self._routes = routes
        if self._waiting is not None:
            routes.serve(self._waiting)
        if self._metrics_sockets:
            own = self._settings.prometheus_multiproc
            routes.monitor(self._metrics_sockets, own_metrics=own, several=self._groups.routed)

    def answer_on(self, sock: socket.socket) -> None:
        """Answer on this listening socket: from now on, or from `start` on."""
        if self._routes is not None:
            self._routes.serve(sock)
        else:
            self._waiting = sock

    def close_metrics_sockets(self) -> None:
        """Let another process listen there."""
        for sock in self._metrics_sockets:
            sock.close()
