"""The server process: its main loop, and the builder that joins its parts. Decides nothing.

Joins front end, application groups and admin socket, and acts on the messages of the watchdog. gevent's event loop runs
in this process and in no other one of ours. Nothing is monkey-patched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import linecache
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gevent
import setproctitle
from gevent import get_hub

from appsrv.ipc import directions, message_format, messages
from appsrv.ipc.channel import Channel, ChannelClosed, DescriptorsLost, Outbox
from appsrv.ipc.dispatcher import Dispatcher, UnexpectedMessage, on
from appsrv.ipc.message_format import Message
from appsrv.logs.access_log import AccessLog, destination
from appsrv.logs.server_log import AccessLines, to_watchdog
from appsrv.net import listening_sockets
from appsrv.net.arrival_time import stamp_connections_of
from appsrv.server.admin.service import AdminService
from appsrv.server.app_watch import AppWatch
from appsrv.server.frontend.frontend import SWEEP_SECONDS, FrontEnd
from appsrv.server.frontend.parking import READABLE
from appsrv.server.frontend_setup import answer_unserved, frontend_of
from appsrv.server.pool.groups import Groups
from appsrv.server.pool.handles import RestartOutcome, send_signals_through, signal_or_delegate
from appsrv.server.pool.manager import Manager
from appsrv.server.shutdown import Shutdown
from appsrv.settings.sources import environment
from appsrv.settings.table import Settings
from appsrv.system import stack_dump
from appsrv.system.users import drop_privileges

if TYPE_CHECKING:
    from appsrv.server.frontend.tls import Tls

log = logging.getLogger("appsrv.server")

SHORTEST_SWEEP_SECONDS = 0.25
STACKS_SECONDS = 1.0
OUT_OF_DESCRIPTORS = "the server is out of descriptors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What a server joins. `build` makes it; a unit test may put others in their place.

    `watchdog`: the channel to it, with what could not be sent yet. `sockets`: those for clients, with the numbers of
    their listeners.
    """

    settings: Settings
    watchdog: Outbox
    frontend: FrontEnd
    groups: Groups
    shutdown: Shutdown
    admin: AdminService
    app_watch: AppWatch
    sockets: Sequence[tuple[int, socket.socket]] = ()
    tls: Tls | None = None
    access_log: AccessLog | None = None


class Server:
    """Joins the parts. `run` returns when the server has ended.

    `orders`: the application groups, as the watchdog has sent them. `pulse`: after so many seconds each the watchdog is
    sent the state, for the service manager; 0.0 for never.
    """

    def __init__(self, parts: Parts, orders: Sequence[messages.ServeGroup] = (), *, pulse: float = 0.0) -> None:
        self.parts = parts
        self._settings = parts.settings
        self._watchdog = parts.watchdog
        self._frontend = parts.frontend
        self._groups = parts.groups
        self._shutdown = parts.shutdown
        self._orders = orders
        self._pulse_seconds = pulse
        self._dispatcher = self._make_dispatcher()
        self._watcher = get_hub().loop.io(parts.watchdog.channel.fileno(), READABLE)

    def run(self) -> None:
        """Serve until the watchdog sends a request to stop, or is gone."""
        parts = self.parts
        self._watcher.start(self.read_messages)
        self._groups.boot(self._orders)
        if parts.access_log is not None:
            self._frontend.log_refused = parts.access_log.refused
            for _, sock in parts.sockets:
                stamp_connections_of(sock)
        self._frontend.acceptor.listen(parts.sockets)
        gevent.spawn(parts.admin.start, self.restart, self.reopen_access_logs)
        gevent.spawn(self._sweep)
        parts.app_watch.start(self.restart)
        if parts.tls is not None:
            gevent.spawn(parts.tls.watch)
        if self._pulse_seconds:
            gevent.spawn(self._pulse)
        self._shutdown.wait()

    def _sweep(self) -> None:
        while True:
            gevent.sleep(min(SWEEP_SECONDS, max(SHORTEST_SWEEP_SECONDS, self._settings.keepalive_timeout)))
            self._frontend.sweep()

    # -- restarts -----------------------------------------------------------------------------------------------------

    def restart(self, group: Manager, parallel: int | None = None, *, stop_first: bool = False) -> RestartOutcome:
        """Restart one application because a person or a deployment asks for it.

        The certificate is read again at once, although `Tls.watch` would notice new files some seconds later: a
        deployment that renews the certificate and restarts the application expects both to be in use afterwards.
        """
        self._reload_certificate()
        return self._restart_application(group, parallel, stop_first=stop_first)

    def _restart_all(self) -> None:
        """Restart every application. The certificate belongs to the whole instance: it is read once."""
        self._reload_certificate()
        # One after the other: all at once would load all applications at once.
        for group in list(self._groups.values()):
            self._restart_application(group)

    def _reload_certificate(self) -> None:
        if self.parts.tls is not None:
            self.parts.tls.load()

    def _restart_application(
        self, group: Manager, parallel: int | None = None, *, stop_first: bool = False
    ) -> RestartOutcome:
        # A quick restart would begin and end between two pulses, so the state is sent at its beginning and its end.
        gevent.spawn(self._send_state)
        outcome = group.restart(parallel, stop_first=stop_first)
        self._send_state()
        return outcome

    def _pulse(self) -> None:
        while True:
            self._send_state()
            gevent.sleep(self._pulse_seconds)

    def _send_state(self) -> None:
        if self._pulse_seconds:
            self._watchdog.send(messages.Pulse(self._groups.state, self._groups.one_line()))

    def reopen_access_logs(self) -> None:
        """Have all workers, and this process, write to the access log that has its name now.

        When this returns, no process writes to the old file any more, so that it may be compressed.
        """
        self._groups.reopen_logs()
        if self.parts.access_log is not None:
            self.parts.access_log.reopen()

    # -- the watchdog -------------------------------------------------------------------------------------------------

    def read_messages(self) -> None:
        """Handle all messages of the watchdog that have arrived."""
        try:
            while True:
                self.handle_message(*self._watchdog.channel.receive())
        except BlockingIOError:
            return
        except DescriptorsLost as error:
            self._refuse_preloader(message_format.unpack(error.data))
        except ChannelClosed:
            self._on_watchdog_gone()

    def _on_watchdog_gone(self) -> None:
        self._watcher.stop()
        log.error("the watchdog has ended")
        self._shutdown.begin(graceful=False, orphaned=True)
        # No other process holds these sockets now: closed, they let a new instance listen at once.
        for _, sock in self.parts.sockets:
            sock.close()
        self.parts.admin.close_metrics_sockets()

    def _refuse_preloader(self, order: Message) -> None:
        """A message has lost its descriptors: of those that carry some, only a preloader's needs an answer."""
        if isinstance(order, messages.AdminSocket):
            return
        assert isinstance(order, messages.PreloaderStarted)
        # The channel to it is lost, so that no message can reach the preloader.
        signal_or_delegate(order.pid, signal.SIGTERM)
        self._groups.preloader_not_started(
            messages.PreloaderNotStarted(order.group, order.generation, order.serial, OUT_OF_DESCRIPTORS)
        )

    def handle_message(self, order: Message, fds: list[int]) -> None:
        """Do what the watchdog asks for, or take note of what it reports."""
        try:
            self._dispatcher.handle_message(order, fds)
        except UnexpectedMessage:
            log.error("a message of the watchdog cannot be carried out: %s", order)

    def _make_dispatcher(self) -> Dispatcher[[list[int]]]:
        groups = self._groups
        return Dispatcher(
            directions.WATCHDOG_TO_SERVER,
            on(messages.PreloaderStarted, lambda order, fds: groups.preloader_started(order, fds[0])),
            on(messages.PreloaderNotStarted, lambda order, _: groups.preloader_not_started(order)),
            on(messages.ProcessExited, lambda order, _: groups.process_exited(order.pid, order.status)),
            on(messages.LastLines, lambda order, _: groups.last_lines(order.pid, order.lines)),
            on(messages.ResizePool, lambda order, _: groups.resize(order.change)),
            on(messages.RestartRequested, self._on_restart_requested),
            on(messages.ReopenLogs, lambda *_: self.reopen_access_logs()),
            on(messages.AdminSocket, lambda _, fds: self.parts.admin.answer_on(listening_sockets.adopt(fds[0]))),
            on(messages.StopRequested, lambda order, _: self._shutdown.begin(graceful=order.graceful)),
        )

    def _on_restart_requested(self, _order: messages.RestartRequested, _fds: object) -> None:
        # In a greenlet: a restart takes seconds, and meanwhile the watchdog has other messages.
        gevent.spawn(self._restart_all)


# -- the process ------------------------------------------------------------------------------------------------------


def build(
    channel: Channel, configure: messages.Configure, sockets: list[socket.socket], admin: socket.socket | None,
    answers: int, *, clock: Callable[[], float] = time.monotonic,
) -> Server:
    """Make a server and its parts. `answers`: the descriptor of the directory for stack dumps."""
    settings = Settings.from_json(configure.settings)
    orders = [channel.receive_one(messages.ServeGroup)[0] for _ in range(configure.groups)]
    channel.sock.setblocking(False)
    watchdog = Outbox(channel)
    send_signals_through(lambda pid, number: watchdog.send(messages.SendSignal(pid, number)))
    frontend, tls = frontend_of(settings, configure.listeners, development=configure.development, clock=clock)
    stacks = functools.partial(stacks_of, answers)
    groups = Groups(settings, frontend, watchdog.send, stacks, development=configure.development, now=clock)
    groups.add_all(orders, configure.problems)
    shutdown = Shutdown(
        settings, frontend, groups, tls.has_sent_all if tls is not None else lambda: True,
        development=configure.development, clock=clock,
    )
    frontend.unserved = answer_unserved(settings.probe_path, lambda: shutdown.begun)
    for_clients = len(sockets) - configure.metrics_sockets
    service = AdminService(settings, configure, frontend, groups, watchdog.send, sockets[for_clients:])
    if admin is not None:
        service.answer_on(admin)
    parts = Parts(
        settings=settings, watchdog=watchdog, frontend=frontend, groups=groups, shutdown=shutdown, admin=service,
        app_watch=AppWatch(settings, groups, environment(), lambda: shutdown.begun),
        sockets=numbered(configure.listeners, sockets[:for_clients]), tls=tls,
        access_log=_access_log(settings, framework=configure.development),
    )
    return Server(parts, orders, pulse=configure.pulse)


def numbered(
    listeners: Sequence[Mapping[str, Any]], sockets: Sequence[socket.socket]
) -> list[tuple[int, socket.socket]]:
    """Each socket with the number of its listener, of which each has one or several."""
    numbers = [number for number, made in enumerate(listeners) for _ in range(made["sockets"])]
    return list(zip(numbers, sockets, strict=True))


def stacks_of(answers: int, model: str, pid: int) -> list[str]:
    """The stacks of a worker's threads, in lines for the log; greenlets write theirs to the log themselves."""
    if model == "gevent" and stack_dump.shows_greenlets(pid):
        signal_or_delegate(pid, stack_dump.GREENLETS_SIGNAL)
    threads = stack_dump.of_application(stack_dump.ask(answers, pid, sleep=gevent.sleep, timeout=STACKS_SECONDS))
    return [line for line in stack_dump.as_text(threads, linecache.getline) if line]


def _access_log(settings: Settings, *, framework: bool) -> AccessLog | None:
    to = settings.access_log_path(framework=framework)
    if to is None:
        return None
    lines = AccessLines() if to == "-" else destination(to, log.error)
    return AccessLog(settings.access_format, lines, log.error)


def _allow_descriptors() -> None:
    """As many connections as the system lets this process have; the application's own limit stays as it is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen_for_commands(run_directory: str) -> socket.socket | None:
    """The admin socket; None where the run directory is missing, which the watchdog reports."""
    try:
        return listening_sockets.listen_privately(os.path.join(run_directory, "admin.sock"))
    except OSError as error:
        log.error("there is no admin socket in %s: %s", run_directory, error.strerror)
        return None


def main(channel_fd: int) -> None:
    """A server started by the watchdog."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    setproctitle.setproctitle("appsrv server")
    _allow_descriptors()
    channel = Channel.from_fd(channel_fd)
    configure, fds = channel.receive_one(messages.Configure)
    stack_dump.listen(configure.run_directory)
    settings = Settings.from_json(configure.settings)
    to_watchdog(settings.log_level)
    # Before the change of user: the user that this process becomes cannot reach the run directory.
    admin_socket = _listen_for_commands(configure.run_directory)
    answers = stack_dump.open_answers(configure.run_directory)
    drop_privileges(settings.user, settings.group)
    try:
        build(channel, configure, [listening_sockets.adopt(fd) for fd in fds], admin_socket, answers).run()
    except Exception:
        log.exception("the server failed")
        sys.exit(1)
