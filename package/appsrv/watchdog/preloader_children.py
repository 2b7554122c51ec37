"""The preloader processes, as the watchdog, their parent, knows them: starts them, records them, closes their channels.

The server decides which preloader is needed; messages to it leave through `send`. How a process is started is known to
`spawner`, how processes end to `children`.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
from collections.abc import Callable, Sequence
from typing import Protocol

from appsrv.errors import ProtocolError
from appsrv.ipc import channel as channels
from appsrv.ipc import directions, messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.dispatcher import Dispatcher, on
from appsrv.ipc.message_format import Message
from appsrv.system.readiness import has_input
from appsrv.watchdog.child_records import GroupRecord, PreloaderRecord
from appsrv.watchdog.configuration import Configuration, preloader_started
from appsrv.watchdog.output_collector import Collector
from appsrv.watchdog.served_groups import ServedGroups
from appsrv.watchdog.spawner import PreloaderSpawner
from appsrv.watchdog.standby import GO, WAIT, Launched, StandbyPreloader


class Send(Protocol):
    """Sends a message to the server: `ServerChild.send`."""

    def __call__(self, msg: Message, fds: Sequence[int] = (), /) -> None: ...


class PreloaderChildren:
    """The preloaders of all groups. `started` counts all that have ever been given work; `standby` starts one ahead."""

    def __init__(
        self, *, groups: ServedGroups, spawner: PreloaderSpawner, configuration: Configuration, output: Collector,
        selector: selectors.BaseSelector, send: Send, kill: Callable[[int], None], clock: Callable[[], float],
        development: bool,
    ) -> None:
        """`kill` ends a process by its pid. `development`: only such an instance has a standby preloader."""
        self._groups = groups
        self._spawner = spawner
        self._configuration = configuration
        self._output = output
        self._selector = selector
        self._send = send
        self._development = development
        self._records: dict[int, PreloaderRecord] = {}
        self._accepts_requests = True
        self.started = 0
        self.standby = StandbyPreloader(self._start_standby, kill, clock)
        self._dispatcher: Dispatcher[[PreloaderRecord, list[int]]] = Dispatcher(
            directions.PRELOADER_TO_WATCHDOG,
            on(messages.OutputPipes, self._on_output_pipes),
            on(messages.Prepare, self._on_prepare),
        )

    @property
    def pids(self) -> list[int]:
        """The pids of all that run, without the standby preloader."""
        return list(self._records)

    # -- starting -----------------------------------------------------------------------------------------------------

    def start_early(self) -> None:
        """Start the first preloader while the server is starting, too: both processes take a processor's time."""
        if len(self._groups) > 1:
            # Several applications would all load at the same time. The server limits how many load at once.
            return
        for group in self._groups:
            settings = group.group.settings
            serial = 1 if settings.spawn_method == "direct" else 0
            if settings.min_instances or not serial:
                group.early = self._make(group, generation=1, serial=serial)

    def on_start_preloader(self, order: messages.StartPreloader) -> None:
        """The server wants a preloader. The answer is PreloaderStarted or PreloaderNotStarted."""
        if not self._accepts_requests:
            if order.serial:
                # The server waits for each worker that it has asked for. Without an answer its stop would take until
                # the deadline.
                self._send(messages.PreloaderNotStarted(order.group, order.generation, order.serial, ""))
            return
        try:
            self._start(order)
        except OSError as error:
            self._send(messages.PreloaderNotStarted(order.group, order.generation, order.serial, str(error)))

    def refuse_requests(self) -> None:
        """Start nothing more that the server asks for."""
        self._accepts_requests = False

    def _start(self, order: messages.StartPreloader) -> None:
        group = self._groups.get(order.group)
        if group is None:
            raise OSError(f"{order.group} is not to be served")
        preloader = group.take_early(order.generation, order.serial)
        if preloader is None:
            preloader = self._make(group, generation=order.generation, serial=order.serial)
        self.pass_to_server(preloader)
        if preloader.exit_status is not None:
            # It ended before the server knew of it. The server gets both messages now, in their order.
            preloader.close()
            self._send(messages.ProcessExited(preloader.pid, preloader.exit_status))
        if order.serial:
            # A process that becomes a worker belongs to the server that asked for it. No other server can use it.
            preloader.close_server_end()

    def _make(self, group: GroupRecord, *, generation: int, serial: int) -> PreloaderRecord:
        launched = self.standby.take() or self._spawn(group, GO)
        self.started += 1
        self.standby.on_started()
        preloader = PreloaderRecord(
            launched.pid, launched.channel, group, generation, serial, server_end=launched.server_end
        )
        self._records[preloader.pid] = preloader
        group.add(preloader)
        # The process may have ended already: then nothing reads the message, and the wait status has the reason.
        with contextlib.suppress(ChannelClosed):
            preloader.channel.send(self._configuration.for_preloader(group))
        self._selector.register(preloader.channel, selectors.EVENT_READ, lambda: self._receive(preloader))
        return preloader

    def _spawn(self, group: GroupRecord, standby: str) -> Launched:
        return self._spawner.start(group, number=self.started + 1, standby=standby)

    def _start_standby(self) -> Launched:
        # Only development servers have a standby preloader, and they have one application.
        (group,) = self._groups
        return self._spawn(group, WAIT)

    def pass_to_server(self, preloader: PreloaderRecord) -> None:
        """Send the server its end of the channel to this preloader."""
        assert preloader.server_end is not None
        self._send(preloader_started(preloader), [preloader.server_end.fileno()])

    # -- messages -----------------------------------------------------------------------------------------------------

    def find_output_of(self, pid: int) -> None:
        """Read from the preloaders until the pipes of this worker have come, or nothing more has.

        A preloader sends the pipes of a worker to the watchdog before it reports the worker to the server, but over
        another channel. So the server may ask about a worker whose pipes have arrived and were not read yet.
        """
        for preloader in list(self._records.values()):
            while not self._output.knows(pid) and _has_message(preloader.channel):
                self._receive(preloader)

    def _receive(self, preloader: PreloaderRecord) -> None:
        if not _has_message(preloader.channel):
            # The selector found the channel readable, but the handler of another descriptor of the same turn
            # (`find_output_of`, for the server) has read the message, or the end, since. The channel blocks: receiving
            # now would stop the watchdog until this preloader sends again, or fail where the channel was closed.
            return
        try:
            msg, fds = preloader.channel.receive()
        except ChannelClosed:
            # The end of the channel comes before the end of the process. It is closed here: otherwise it would be found
            # readable in each turn of the loop until the process has been reaped.
            self._selector.unregister(preloader.channel)
            preloader.channel.close()
            return
        except ProtocolError as error:
            _log_ignored(preloader, error)
            return
        try:
            self._dispatcher.handle_message(msg, preloader, fds)
        except ProtocolError as error:
            channels.close_all(fds)
            _log_ignored(preloader, error)

    def _on_output_pipes(self, msg: messages.OutputPipes, preloader: PreloaderRecord, fds: list[int]) -> None:
        if len(fds) != 2:
            raise ProtocolError(f"OutputPipes came with {len(fds)} descriptors, not with stdout and stderr")
        self._output.collect(msg.pid, fds, preloader.group.log)

    def _on_prepare(self, msg: messages.Prepare, _preloader: PreloaderRecord, fds: list[int]) -> None:
        channels.close_all(fds)
        if self._development:
            self.standby.on_loaded(msg)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def remove(self, pid: int) -> PreloaderRecord | None:
        """Forget a process that has ended; None when it is no preloader. The caller closes its channels."""
        preloader = self._records.pop(pid, None)
        if preloader is None:
            return None
        preloader.group.preloaders.pop(pid, None)
        # Its last messages may have come after the selector was asked in this turn. Without the pipes of a worker that
        # it has forked, the output of that worker would be lost.
        while _has_message(preloader.channel):
            self._receive(preloader)
        # Still registered, unless the end of the channel was among what was read.
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(preloader.channel)
        return preloader

    def close(self) -> None:
        """Close all channels. The processes have ended, or cannot be ended."""
        early = (group.early for group in self._groups if group.early is not None)
        for preloader in (*early, *self._records.values()):
            preloader.close()


def _log_ignored(preloader: PreloaderRecord, error: ProtocolError) -> None:
    """The application is in the same process and may have written into the channel: that must not end the instance."""
    where = f"preloader {preloader.pid} of {preloader.group.group.name}"
    preloader.group.log.event(logging.ERROR, f"{where}: a message is ignored: {error}")


def _has_message(channel: Channel) -> bool:
    return channel.fileno() >= 0 and has_input(channel.fileno())
