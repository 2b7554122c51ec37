"""The watchdog's main loop: waits for signals, messages and output, and passes each to the part that handles it.

The watchdog is the process of the command that was typed. It owns what must outlive all other processes: the listening
sockets, the run directory, the pid file, the server log. It starts a server again that died. It is small on purpose: no
gevent, no code of the application, one thread. It keeps the server's end of each preloader's channel, so that a new
server need not import the application again.

Made by `assembly`. Knows which part handles what, and nothing about how.
"""

from __future__ import annotations

import logging
import selectors
import signal
from collections.abc import Callable

from appsrv.apps.app_group import AppGroup
from appsrv.errors import failure_of
from appsrv.instance.kept_directory import KeptDirectory
from appsrv.ipc import directions, messages
from appsrv.ipc.dispatcher import Dispatcher, UnexpectedMessage, on
from appsrv.system.hangup import Hangup, Meaning
from appsrv.system.oom_kills import OutOfMemoryKills
from appsrv.system.signals import Arrived, Signals
from appsrv.watchdog.children import Children
from appsrv.watchdog.output_collector import Collector
from appsrv.watchdog.process_table import ProcessTable
from appsrv.watchdog.resources import Resources
from appsrv.watchdog.served_groups import ServedGroups
from appsrv.watchdog.service_reports import ServiceReports
from appsrv.watchdog.stop_sequence import StopSequence

EXIT_POLL_SECONDS = 0.05
"""How long the loop waits for the end of processes before it asks for them again."""


class Watchdog:
    """The loop of one running instance."""

    def __init__(
        self, *, selector: selectors.BaseSelector, signals: Signals, hangup: Hangup, children: Children,
        stop: StopSequence, groups: ServedGroups, resources: Resources, output: Collector, service: ServiceReports,
        kept_directory: KeptDirectory, processes: ProcessTable, oom_kills: OutOfMemoryKills,
        clock: Callable[[], float], development: bool, on_booted: Callable[[], None],
    ) -> None:
        """Each descriptor in `selector` has the function that handles it as its data.

        `on_booted` is called when the first worker is ready.
        """
        self._selector = selector
        self._signals = signals
        self._hangup = hangup
        self._children = children
        self._stop = stop
        self._groups = groups
        self._resources = resources
        self._output = output
        self._service = service
        self._kept_directory = kept_directory
        self._processes = processes
        self._oom_kills = oom_kills
        self._clock = clock
        self._development = development
        self._on_booted = on_booted
        self._dispatcher: Dispatcher[[]] = Dispatcher(
            directions.SERVER_TO_WATCHDOG,
            on(messages.StartPreloader, children.preloaders.on_start_preloader),
            on(messages.ServeGroup, lambda msg: groups.add_found(AppGroup.from_json(msg.group))),
            on(messages.DropGroup, lambda msg: groups.remove(msg.group)),
            on(messages.SendSignal, self._on_send_signal),
            on(messages.StopInstance, lambda _: stop.request()),
            on(messages.ReopenLogs, lambda _: groups.reopen_logs()),
            on(messages.Booted, self._on_first_worker),
            on(messages.BootFailed, self._on_boot_failed),
            on(messages.Serving, self._on_serving),
            on(messages.Pulse, service.on_pulse),
            on(messages.LastLinesRequested, self._on_last_lines_requested),
        )

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; returns the exit code. Raises the error of a first generation that cannot boot."""
        try:
            self._children.start()
            while self._children.server.pid is not None or not self._stop.begun:
                self._turn()
            self._stop.finish(self._turn_of_stop)
        finally:
            self._children.close()
        if self._stop.failure is not None:
            raise self._stop.failure
        return self._stop.exit_code

    def _turn(self) -> None:
        self._children.start_server_if_due()
        self._stop.check()
        self._children.server.flush()
        self._children.preloaders.standby.start_if_due()
        for key, _ in self._selector.select(self._timeout()):
            key.data()
        self._output.emit_due()
        if self._clock() >= self._kept_directory.due:
            self._check_directory()
        for arrived in self._signals.take():
            self._on_signal(arrived)
        self._on_hangup(self._hangup.decide())

    def _timeout(self) -> float:
        """How long the loop may wait for input: until the first of its parts has something to do."""
        server = self._children.server
        due = min(
            server.start_due if server.pid is None else self._stop.due, server.flush_due,
            self._children.preloaders.standby.due, self._output.due, self._hangup.due, self._kept_directory.due,
        )
        return max(0.0, due - self._clock())

    def _turn_of_stop(self) -> None:
        """A turn after the server has ended: only output and the ends of processes count, and no signal does."""
        for key, _ in self._selector.select(EXIT_POLL_SECONDS):
            key.data()
        self._signals.take()
        self._children.reap()

    def _check_directory(self) -> None:
        made = self._kept_directory.check()
        if made is not None:
            with made:
                self._resources.restore_directories()
                self._children.server.send(messages.AdminSocket(), [made.fileno()])

    # -- signals ------------------------------------------------------------------------------------------------------

    def _on_signal(self, arrived: Arrived) -> None:
        number, server = arrived.number, self._children.server
        if number == signal.SIGCHLD:
            self._children.reap()
        elif number == signal.SIGHUP:
            self._on_hangup(self._hangup.on_signal(arrived.sender))
        elif number == signal.SIGUSR1:
            server.send(messages.ReopenLogs())
            self._groups.reopen_logs()
        elif number in (signal.SIGTTIN, signal.SIGTTOU):
            server.send(messages.ResizePool(1 if number == signal.SIGTTIN else -1))
        elif number == signal.SIGINT:
            self._stop.interrupt()
        else:
            self._stop.request()

    def _on_hangup(self, meaning: Meaning | None) -> None:
        if meaning is Meaning.RESTART:
            self._children.server.send(messages.RestartRequested())
        elif meaning is Meaning.END and not self._stop.begun:
            self._resources.log.event(logging.INFO, "the terminal was closed")
            # The requests to a development server end with its terminal, as they do with Ctrl-C.
            self._stop.begin(graceful=not self._development)

    # -- messages of the server ---------------------------------------------------------------------------------------

    def receive_from_server(self) -> None:
        """The channel of the server has input."""
        msg = self._children.server.receive()
        if msg is None:
            return
        try:
            self._dispatcher.handle_message(msg)
        except UnexpectedMessage as error:
            self._resources.log.event(logging.ERROR, str(error))

    def _on_send_signal(self, msg: messages.SendSignal) -> None:
        # The server may run as another user than the watchdog. Through the watchdog it must not reach processes that do
        # not belong to the instance.
        if msg.pid in self._processes.descendants():
            self._processes.send_signal(msg.pid, msg.number)

    def _on_first_worker(self, msg: messages.Booted) -> None:
        self._children.has_booted = True
        self._service.ready()
        self._resources.publish_settings_module(msg.settings_module)
        self._on_booted()

    def _on_boot_failed(self, msg: messages.BootFailed) -> None:
        details = msg.traceback or "\n".join(self._output.last_lines(msg.pid))
        self._stop.fail(failure_of(msg.exit_code, msg.message, details))

    def _on_serving(self, msg: messages.Serving) -> None:
        group = self._groups.get(msg.group)
        if group is not None:
            group.serving = msg.generation

    def _on_last_lines_requested(self, msg: messages.LastLinesRequested) -> None:
        # The server attributes the kernel's kills to its workers before it asks. What is counted until now is not the
        # reason for which the server itself may end later.
        self._oom_kills.forget()
        self._children.preloaders.find_output_of(msg.pid)
        self._children.server.send(messages.LastLines(msg.pid, self._output.last_lines(msg.pid)))
