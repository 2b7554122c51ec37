"""The children of the watchdog: starts the server and the first preloader, reaps all that end, replaces the server.

The parts for one kind of child are `server_child` and `preloader_children`. When the instance stops is decided in
`stop_sequence`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from appsrv.ipc import messages
from appsrv.watchdog.child_records import PreloaderRecord
from appsrv.watchdog.configuration import Configuration, serve_group
from appsrv.watchdog.output_collector import Collector
from appsrv.watchdog.preloader_children import PreloaderChildren
from appsrv.watchdog.process_table import ProcessTable
from appsrv.watchdog.served_groups import ServedGroups
from appsrv.watchdog.server_child import ServerChild


class Children:
    """The server, the preloaders, and workers whose preloader has ended, which the kernel gives to the watchdog."""

    def __init__(
        self, *, server: ServerChild, preloaders: PreloaderChildren, groups: ServedGroups, processes: ProcessTable,
        configuration: Configuration, output: Collector, clock: Callable[[], float], development: bool,
        on_startup_failure: Callable[[int], None],
    ) -> None:
        """`on_startup_failure` gets the exit code of a development server's command that cannot start."""
        self.server = server
        self.preloaders = preloaders
        self._groups = groups
        self._processes = processes
        self._configuration = configuration
        self._output = output
        self._clock = clock
        self._development = development
        self._on_startup_failure = on_startup_failure
        self._replaces_server = True
        self.has_booted = False
        """Whether a worker has been ready."""

    def start(self) -> None:
        """Start the first preloader and the server. Raises OSError."""
        self.preloaders.start_early()
        self._start_server()

    def start_server_if_due(self) -> None:
        """Start another server, if none runs and the delay after the last one is over."""
        if self.server.pid is not None or not self._replaces_server or self._clock() < self.server.start_due:
            return
        try:
            self._start_server()
        except OSError as error:
            self.server.start_failed(error)

    def stop(self, *, graceful: bool) -> None:
        """Have the server stop and end, and replace it no more.

        A graceful stop serves requests until the end, for which the server may still need a preloader. Any other stop
        starts no process.
        """
        self._replaces_server = False
        if not graceful:
            self.preloaders.refuse_requests()
        self.preloaders.standby.close()
        self.server.send(messages.StopRequested(graceful))

    def _start_server(self) -> None:
        """Start a server and send it all that it has to know.

        A new server in the place of one that died continues with the preloader of the serving generation, so the
        application is not imported again. Other preloaders were of use to the dead server alone; they are ended.
        """
        self.server.start()
        configure, sockets = self._configuration.for_server(groups=len(self._groups), restarts=self.server.restarts)
        self.server.send(configure, sockets)
        kept = {group.name: group.preloader_for_new_server() for group in self._groups}
        for group in self._groups:
            preloader = kept[group.name]
            self.server.send(serve_group(group, preloader))
            for obsolete in group.obsolete(preloader):
                self._processes.send_signal(obsolete.pid, signal.SIGTERM)
        # After all groups: the server reads as many ServeGroup as Configure announces before any other message.
        for preloader in filter(None, kept.values()):
            self.preloaders.pass_to_server(preloader)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Take the wait status of each child that has ended, and act on it."""
        for pid, status in self._processes.reap():
            if pid == self.server.pid:
                self._server_exited(status)
            elif not self.preloaders.standby.exited(pid):
                self._other_exited(pid, status)

    def close(self) -> None:
        """Close all channels, at the end of the watchdog."""
        self.server.close()
        self.preloaders.close()

    def _server_exited(self, status: int) -> None:
        if self._replaces_server:
            self.server.died(status)
        else:
            self.server.close()

    def _other_exited(self, pid: int, status: int) -> None:
        preloader = self.preloaders.remove(pid)
        if preloader is None:
            if self._output.knows(pid):
                # A worker whose preloader has ended before it. No other process ends what its application has started.
                self._processes.kill_group(pid)
        elif not self._preloader_exited(preloader, status):
            return
        self.server.send(messages.ProcessExited(pid, status))

    def _preloader_exited(self, preloader: PreloaderRecord, status: int) -> bool:
        """Close its channels; whether to send ProcessExited now."""
        if self._is_startup_failure(status):
            preloader.close()
            self._on_startup_failure(os.WEXITSTATUS(status))
        elif preloader is preloader.group.early:
            # The early preloader has ended before the server, which is still starting, has asked for it. The server
            # does not know its pid yet and would ignore ProcessExited. So the server's end of its channel stays open,
            # with the reason that it may have sent (LoadFailed), until the server asks (`PreloaderChildren`).
            preloader.exit_status = status
            return False
        else:
            preloader.close()
        return True

    def _is_startup_failure(self, status: int) -> bool:
        """Whether the framework's own command cannot start. `manage.py runserver` then ends with the same exit code."""
        is_first = self._development and self.preloaders.started == 1 and not self.has_booted
        return is_first and self._replaces_server and os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0
