"""What a worker is made for: its application, and the server that it works for.

A preloader makes a role once, and a context for each server that it gets. Both are data, passed on to its workers. What
a worker does with them is in `process`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from appsrv.app_process import own_lines
from appsrv.apps.shared_routes import RouteTable
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.shared_epoll import SharedEpoll
from appsrv.settings.table import Settings
from appsrv.system import unpatched
from appsrv.worker.access_log import LogRequest
from appsrv.worker.connection_handler import WSGIApplication
from appsrv.wsgi.environ import environ_base

ReportPaths = Callable[[list[str]], None]


class FileWatch(Protocol):
    """Watches files in a development server; an integration has it."""

    def __call__(self, code_changed: ReportPaths, files_changed: ReportPaths, /) -> None:
        """Watch, and report the files that have changed. Runs in one process only, until that process ends.

        `code_changed`: the application has to be loaded again. `files_changed`: this process has forgotten what it
        remembered of the files, and the other processes are to do so, too.
        """

    def forget(self, paths: list[str], /) -> None:
        """Forget, in this process, what is remembered of these files."""


def forget_files(watch: FileWatch, paths: list[str]) -> None:
    """Have `watch` forget these files. An exception that it raises is printed and changes nothing else."""
    try:
        watch.forget(paths)
    except Exception as error:
        own_lines.write_traceback(error)


@dataclass(frozen=True)
class WorkerContext:
    """What a server gave a preloader for its workers: where requests come from, and where a worker writes its state.

    `idle`: where a connection waits for its next request, the shared epoll or the release pipe. `routes`: which
    application a request is for, where there are several.
    """

    server: int
    hand_off: socket.socket
    board: Scoreboard
    idle: SharedEpoll | int
    routes: RouteTable | None = None

    def close(self) -> None:
        """Close the descriptors."""
        self.hand_off.close()
        # By close(2) itself: gevent's `os.close` waits for an event loop.
        unpatched.close(self.board.fd)
        unpatched.close(self.idle.fd if isinstance(self.idle, SharedEpoll) else self.idle)
        if self.routes is not None:
            unpatched.close(self.routes.fd)


class ApplicationProcess(Protocol):
    """The process of an application in another language, of which each worker has one (module `generic.process`)."""

    relays: Any

    def start(self, unwanted: Callable[[], bool], ended: Callable[[], None]) -> bool:
        """Start it and wait until it accepts connections; False when the worker became unwanted meanwhile.

        Raises NotStarted when it does not accept connections. `ended` is called when it ends by itself later, just
        before the worker does.
        """

    def retire(self) -> None:
        """Expect its end: the worker takes no further connections."""

    def stop(self) -> None:
        """End the process."""

    def end_worker_like_it(self) -> None:
        """End the worker with the exit status or the signal of the process."""


@dataclass(frozen=True)
class WorkerRole:
    """The part that all workers of one preloader have: the application and how to serve it.

    `upstream`: the process that is the application, where that is in another language.
    """

    name: str
    application: WSGIApplication
    settings: Settings
    listeners: Sequence[dict[str, Any]]
    development: bool
    log_request: LogRequest | None = None
    watch: FileWatch | None = None
    terminal: str = ""
    upstream: ApplicationProcess | None = None


def environs(role: WorkerRole) -> list[dict[str, Any]]:
    """For each listener, in the order of `role.listeners`, the environ that its requests begin with."""
    settings, errors = role.settings, own_lines.error_stream()
    return [
        environ_base(
            server_name=None if listener["path"] else listener["host"],
            server_port=None if listener["path"] else listener["port"],
            multithread=settings.concurrency > 1,
            multiprocess=settings.max_pool_size > 1,
            errors=errors,
            url_scheme="https" if listener["tls"] else "http",
            script_name=settings.base_uri,
        )
        for listener in role.listeners
    ]
