"""The watchdog: the command you started. Owns what must outlive everything else, and starts the others again.

Its own are the listening sockets, the run directory, the pid file, the server log and the signals. Small on purpose: no
gevent, no application code, one loop. It keeps a duplicate of each preloader's channel, so that a server that died is
replaced without importing the application again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TextIO

import setproctitle

from appsrv.apps.app_group import AppGroup
from appsrv.apps.hosting import lies_in
from appsrv.errors import AppsrvError, failure_of
from appsrv.instance.kept_directory import KeptDirectory
from appsrv.instance.run_directory import InstanceInfo
from appsrv.ipc import channel as channels
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel, ChannelClosed, Outbox
from appsrv.logs.server_log import ServerLog
from appsrv.settings import internal_variables, sources
from appsrv.settings.table import Settings
from appsrv.system import process_group, stack_dump
from appsrv.system.exit_status import who_killed
from appsrv.system.hangup import Hangup, Meaning
from appsrv.system.nonblocking_terminal import Terminal
from appsrv.system.oom_kills import OutOfMemoryKills
from appsrv.system.process_tree import become_subreaper, descendants, own_processes, send_signal
from appsrv.system.readiness import has_input
from appsrv.system.service_manager import SERVICE_VARIABLES, Notifier, watchdog_interval
from appsrv.system.signals import Arrived, Signals
from appsrv.system.users import Identity, check_reach, identity_of, user_of_owner
from appsrv.system.words import listed
from appsrv.watchdog import standby
from appsrv.watchdog.children import Child, GroupBook
from appsrv.watchdog.output_collector import Collector
from appsrv.watchdog.resources import Resources
from appsrv.watchdog.spawner import Spawner
from appsrv.watchdog.standby import Launched, StandbyPreloader
from appsrv.watchdog.terminal_lender import TerminalLender, can_lend

LAST_WORDS = 2.0
# What the server may take beyond the time it was given to stop.
STOP_MARGIN = 5.0
YOUNG = 1.0
PULSE = 1.0
# How often, in seconds, it is tried to send what a server had no room for.
FLUSH = 0.25



@dataclass(frozen=True)
class Development:
    """What makes an instance a development server: the command that is run again as its preloader."""

    argv: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


class Watchdog:
    """One running instance, from the sockets to the last word in the log."""

    def __init__(
        self, settings: Settings, root: str, groups: Sequence[AppGroup], environ: Mapping[str, str],
        development: Development | None, problems: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._groups = groups
        self._problems = dict(problems or {})
        self._identity = identity_of(settings.user, settings.group)
        self._identities = {group.name: _identity_of(group) for group in groups}
        self._environ = {name: value for name, value in environ.items() if name not in SERVICE_VARIABLES}
        self._service = Notifier(environ)
        self._sign_of_life = watchdog_interval(environ, os.getpid())
        self._reloading = False
        self._development = development
        self.resources = Resources(
            settings, root, groups, environ, self._identities, development=development is not None
        )
        self._selector = selectors.DefaultSelector()
        self._server: Child | None = None
        self._to_server: Outbox | None = None
        self._preloaders: dict[int, Child] = {}
        self._standby = StandbyPreloader(self._launch_standby, lambda pid: send_signal(pid, signal.SIGKILL))
        self._books: dict[str, GroupBook] = {}
        self._restarts = 0
        self._stopping = False
        self._starts_preloaders = True
        self._exit_code = 0
        self._failure: AppsrvError | None = None
        self._kernel = OutOfMemoryKills()
        self._server_due = 0.0
        self._stop_due = float("inf")
        self._young_deaths = 0
        self._boots = 0
        self._has_booted = False
        self.booted: Callable[[], None] = lambda: None
        self.terminal: Terminal | None = None

    # -- the loop -----------------------------------------------------------------------------------------------------

    def open(self, terminal: TextIO | None) -> InstanceInfo:
        """Take what the instance owns. Signals are handled before that: one that ends this process gives it back."""
        self._hangup = Hangup.of_this_process()
        self._signals = Signals(self._selector)
        try:
            return self.resources.open(terminal, may_wait=self._signals.ending_interrupts)
        except BaseException:
            self._signals.ignore()
            raise

    def run(self) -> int:
        """Serve until told to stop; returns the exit code. Raises what kept the first generation from booting.

        `open` comes before.
        """
        setproctitle.setproctitle("appsrv watchdog")
        self._log = self.resources.log
        self._output = Collector(self._selector, self._log)
        self._spawner = Spawner(self._environ, self._output)
        for group in self._groups:
            log, identity = self.resources.group_logs[group.name], self._identities[group.name]
            self._books[group.name] = GroupBook(group, identity, log, self.resources.make_multiproc(group, identity))
        stack_dump.listen(self.resources.directory.path)
        self._kept = KeptDirectory(self.resources.directory, lambda: self.resources.info, self._log.event)
        become_subreaper()
        lender = None
        try:
            self._warn_of_root()
            for notice in sources.variable_notices(self._environ):
                self._log.event(logging.WARNING, notice)
            for name, problem in self._problems.items():
                self._log.event(logging.ERROR, f"{name} is not served: {problem}")
            lender = self._lend_terminal()
            self._start_early()
            self._start_server()
            while self._server is not None or not self._stopping:
                self._turn()
            self._end_preloaders()
        finally:
            if lender is not None:
                lender.close()
            self._signals.ignore()
            self._output.finish()
            self._selector.close()
            self.resources.close()
            for log in self._logs():
                log.close()
        if self._failure is not None:
            raise self._failure
        return self._exit_code

    def _lend_terminal(self) -> TerminalLender | None:
        """Let debuggers in workers have the terminal, where there is one and somebody develops."""
        development = self._development is not None or self._settings.environment == "development"
        if self.terminal is None or not development or self._identity is not None or not can_lend():
            return None
        directory = self.resources.directory.path
        return TerminalLender(self._selector, directory, self.terminal, self._output.catch_up)

    def _warn_of_root(self) -> None:
        if os.geteuid() != 0 or self._development is not None:
            return
        names = [book.group.name for book in self._books.values() if book.identity is None]
        if names:
            what = "the application runs" if len(self._books) == 1 else f"{listed(names)} run"
            self._log.event(logging.WARNING, f"{what} as root: name another user with --user")

    def _turn(self) -> None:
        if self._server is None and time.monotonic() >= self._server_due and not self._stopping:
            self._try_to_start_server()
        if self._server is not None and time.monotonic() >= self._stop_due:
            self._stop_due = float("inf")
            self._log.event(logging.ERROR, f"the server {self._server.pid} does not stop and is killed")
            send_signal(self._server.pid, signal.SIGKILL)
        if self._to_server:
            self._to_server.flush()
        self._standby.turn()
        for key, _ in self._selector.select(self._patience()):
            key.data()
        self._output.emit_due()
        if time.monotonic() >= self._kept.due:
            self._keep_directory()
        for arrived in self._signals.take():
            self._on_signal(arrived)
        self._on_hangup(self._hangup.decide())

    def _patience(self) -> float | None:
        due = min(self._server_due if self._server is None else self._stop_due, self._output.due, self._standby.due)
        due = min(due, self._hangup.due, self._kept.due)
        if self._to_server:
            due = min(due, time.monotonic() + FLUSH)
        return max(0.0, due - time.monotonic()) if due < float("inf") else None

    def _on_signal(self, arrived: Arrived) -> None:
        number = arrived.number
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._on_hangup(self._hangup.on_signal(arrived.sender))
        elif number == signal.SIGUSR1:
            self._tell_server(messages.ReopenLogs())
            self._reopen_log()
        elif number in (signal.SIGTTIN, signal.SIGTTOU):
            self._tell_server(messages.ResizePool(1 if number == signal.SIGTTIN else -1))
        elif number == signal.SIGINT:
            self._kill_everything() if self._stopping else self._stop(graceful=False)
        elif not self._stopping:
            # Another TERM is no reason to begin the time anew.
            self._stop(graceful=True)

    def _keep_directory(self) -> None:
        made = self._kept.look()
        if made is not None:
            with made:
                self.resources.restore_directories()
                if self._to_server is not None:
                    self._to_server.send(messages.AdminSocket(), [made.fileno()])

    def _on_hangup(self, meaning: Meaning | None) -> None:
        if meaning is Meaning.RESTART:
            self._tell_server(messages.RestartRequested())
        elif meaning is Meaning.END and not self._stopping:
            self._log.event(logging.INFO, "the terminal was closed")
            # A developer's requests end with the terminal, as they do with Ctrl-C.
            self._stop(graceful=self._development is None)

    def _stop(self, *, graceful: bool) -> None:
        self._stopping = True
        # What is asked for until the end, in stop_delay above all, needs somebody who answers it.
        self._starts_preloaders = graceful
        self._standby.close()
        self._service.stopping()
        allowed = self._settings.stop_delay + self._settings.stop_timeout if graceful else 0.0
        self._stop_due = time.monotonic() + allowed + STOP_MARGIN
        self._tell_server(messages.StopRequested(graceful))

    def _logs(self) -> list[ServerLog]:
        return list({id(log): log for log in (self._log, *(book.log for book in self._books.values()))}.values())

    def _reopen_log(self) -> None:
        for log in self._logs():
            log.reopen()
        self._log.event(logging.INFO, "the server log was opened again")

    # -- children -----------------------------------------------------------------------------------------------------

    def _try_to_start_server(self) -> None:
        try:
            self._start_server()
        except OSError as error:
            self._log.event(logging.ERROR, f"the server cannot be started: {error}; trying again")
            self._server_due = time.monotonic() + YOUNG

    def _start_server(self) -> None:
        ours, theirs = channels.pair()
        with contextlib.closing(theirs), _closing_on_error(ours):
            pid = self._spawner.module("server", [theirs], {})
        # A server that hangs must not make the watchdog wait, which has to end it.
        ours.setblocking(False)
        self._server = Child(pid, Channel(ours), time.monotonic())
        self._to_server = Outbox(self._server.channel)
        sockets = [*self.resources.sockets, *self.resources.metrics_sockets]
        configure = self._configure(self._settings, groups=len(self._books))
        self._to_server.send(configure, [sock.fileno() for sock in sockets])
        alive = {book: book.to_go_on_with() for book in self._books.values()}
        for book, preloader in alive.items():
            self._to_server.send(_serve_group(book, preloader))
            for child in book.others(preloader):
                send_signal(child.pid, signal.SIGTERM)
        self._selector.register(ours, selectors.EVENT_READ, self._from_server)
        for preloader in filter(None, alive.values()):
            self._introduce(preloader)

    def _configure(
        self, settings: Settings, group: AppGroup | None = None, groups: int = 0, upstreams: str = ""
    ) -> messages.Configure:
        resources = self.resources
        return messages.Configure(
            settings=settings.to_json(),
            group=group.to_json() if group is not None else {},
            groups=groups,
            problems=self._problems if groups else {},
            listeners=[made.to_json() for made in resources.listeners],
            instance=resources.info.to_json(),
            run_directory=str(resources.directory.path),
            development=self._development is not None,
            restarts=self._restarts,
            bind_errno=resources.bind_errno,
            metrics_sockets=len(resources.metrics_sockets),
            upstreams=upstreams,
            bind_reason=resources.bind_reason,
            pulse=min(PULSE, self._sign_of_life or PULSE) if self._service.wanted else 0.0,
        )

    def _start_early(self) -> None:
        """Start what the server is going to ask for first while it starts itself: two processors are busy then."""
        if len(self._books) > 1:
            # They would all load at the same time; the server knows how many at a time are good.
            return
        for name, book in self._books.items():
            settings = book.group.settings
            serial = 1 if settings.spawn_method == "direct" else 0
            if settings.min_instances or not serial:
                book.early = self._make_preloader(book, messages.StartPreloader(name, 1, serial))

    def _try_to_start_preloader(self, order: messages.StartPreloader) -> None:
        try:
            self._start_preloader(order)
        except OSError as error:
            self._tell_server(messages.PreloaderNotStarted(order.group, order.generation, order.serial, str(error)))

    def _start_preloader(self, order: messages.StartPreloader) -> None:
        book = self._books.get(order.group)
        if book is None:
            raise OSError(f"{order.group} is not to be served")
        child, book.early = book.early, None
        if child is None or (child.generation, child.serial) != (order.generation, order.serial):
            child = self._make_preloader(book, order)
        self._introduce(child)
        if child.ended is not None:
            self._forget_preloader(child, child.ended)
            self._tell_server(messages.ProcessExited(child.pid, child.ended))
        if order.serial and child.spare is not None:
            # A process that becomes a worker is of use to the server that asked for it alone.
            child.spare.close()
            child.spare = None

    def _make_preloader(self, book: GroupBook, order: messages.StartPreloader) -> Child:
        launched = self._standby.take() or self._launch(book, standby.GO)
        self._boots += 1
        self._standby.on_started()
        ours = launched.channel
        child = Child(
            launched.pid, ours, time.monotonic(), book, order.generation, order.serial, launched.server_end
        )
        self._preloaders[child.pid] = book.preloaders[child.pid] = child
        book.last_generation = max(book.last_generation, order.generation)
        upstreams = self.resources.upstreams_of(book.group, book.identity)
        with contextlib.suppress(ChannelClosed):
            # One that has ended already is told of by its end.
            ours.send(self._configure(book.group.settings, book.group, upstreams=upstreams))
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._from_preloader(child))
        return child

    def _launch(self, book: GroupBook, kind: str) -> Launched:
        server_end, preloader_end = channels.pair()
        ours, theirs = channels.pair()
        fds = [preloader_end, theirs]
        environ = {"PYTHONUNBUFFERED": "1", internal_variables.ENVIRONMENT: book.group.settings.environment}
        environ |= book.group.variables
        if book.multiproc:
            environ["PROMETHEUS_MULTIPROC_DIR"] = book.multiproc
        if book.identity is not None:
            environ |= book.identity.variables
        if self._development is not None:
            environ |= self._development.environ
            environ[internal_variables.BOOT] = str(self._boots + 1)
            environ[internal_variables.PRELOADER] = ",".join(str(sock.fileno()) for sock in fds)
            environ[internal_variables.STANDBY] = kind
        with contextlib.closing(preloader_end), contextlib.closing(theirs), _closing_on_error(ours, server_end):
            if self._development is not None:
                pid = self._spawner.command(self._development.argv, fds, environ, log=book.log)
            else:
                pid = self._spawner.module("preloader", fds, environ, log=book.log)
        return Launched(pid, Channel(ours), server_end)

    def _launch_standby(self) -> Launched:
        # A development server has one application.
        (book,) = self._books.values()
        return self._launch(book, standby.WAIT)

    def _introduce(self, child: Child) -> None:
        assert child.spare is not None
        assert child.book is not None
        book = child.book
        started = messages.PreloaderStarted(book.group.name, child.generation, child.serial, child.pid, book.multiproc)
        self._tell_server(started, [child.spare.fileno()])

    # -- what they say ------------------------------------------------------------------------------------------------

    def _tell_server(self, msg: messages.Message, fds: Sequence[int] = ()) -> None:
        if self._to_server is not None:
            self._to_server.send(msg, fds)

    def _from_server(self) -> None:
        assert self._server is not None
        try:
            msg, fds = self._server.channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed:
            self._selector.unregister(self._server.channel)
            return
        channels.close_all(fds)
        if isinstance(msg, messages.StartPreloader):
            if self._starts_preloaders:
                self._try_to_start_preloader(msg)
            elif msg.serial:
                self._tell_server(messages.PreloaderNotStarted(msg.group, msg.generation, msg.serial, ""))
        elif isinstance(msg, messages.ServeGroup):
            self._host(AppGroup.from_json(msg.group))
        elif isinstance(msg, messages.DropGroup):
            self._drop(msg.group)
        elif isinstance(msg, messages.SendSignal):
            if msg.pid in descendants(os.getpid()):
                send_signal(msg.pid, msg.number)
        elif isinstance(msg, messages.StopInstance):
            # As with TERM: asking again does not begin the time anew.
            if not self._stopping:
                self._stop(graceful=True)
        elif isinstance(msg, messages.ReopenLogs):
            self._reopen_log()
        elif isinstance(msg, messages.Booted):
            self._has_booted = True
            self._service.ready()
            self.resources.tell_settings_module(msg.settings_module)
            self.booted()
        elif isinstance(msg, messages.Serving):
            if msg.group in self._books:
                self._books[msg.group].serving = msg.generation
        elif isinstance(msg, messages.Pulse):
            self._on_pulse(msg)
        elif isinstance(msg, messages.BootFailed):
            self._boot_failed(msg)
        elif isinstance(msg, messages.LastWordsWanted):
            self._tell_last_words(msg.pid)

    def _host(self, group: AppGroup) -> None:
        """The server has found an application in the directory of applications. Whose it is, is not for it to say."""
        if not lies_in(group, self._settings.apps_directory):
            self._log.event(logging.ERROR, f"{group.name} is not in apps_directory and not served")
            return
        try:
            user = user_of_owner(self._settings.user, group.name)
            group = replace(group, settings=replace(group.settings, user=user, group=self._settings.group))
            identity = _identity_of(group)
        except (AppsrvError, OSError) as error:
            self._log.event(logging.ERROR, f"{group.name} is not served: {error}")
            return
        log = self.resources.log_of(group, identity)
        self.resources.group_logs[group.name] = log
        self._books[group.name] = GroupBook(group, identity, log, self.resources.make_multiproc(group, identity))

    def _drop(self, name: str) -> None:
        book = self._books.pop(name, None)
        if book is None:
            # It was not to be served, as the log says.
            return
        self.resources.group_logs.pop(name, None)
        self.resources.remove_directories(name)
        if not any(log is book.log for log in self._logs()):
            book.log.close()

    def _boot_failed(self, msg: messages.BootFailed) -> None:
        said = msg.traceback or "\n".join(self._output.last_lines(msg.pid))
        self._failure = failure_of(msg.exit_code, msg.message, said)
        self._stop(graceful=False)

    def _tell_last_words(self, pid: int) -> None:
        # The server has claimed what the kernel has killed until now.
        self._kernel.settle()
        for child in list(self._preloaders.values()):
            while not self._output.knows(pid) and _has_message(child.channel):
                self._from_preloader(child)
        self._tell_server(messages.LastWords(pid, self._output.last_lines(pid)))

    def _from_preloader(self, child: Child) -> None:
        if not _has_message(child.channel):
            # The selector found the channel readable, but the handler of another descriptor of the same turn (a server
            # that asks for last words) has read the message, or the end, since. The channel blocks: receiving now would
            # stop the watchdog until this preloader sends again, or fail where the channel was closed.
            return
        try:
            msg, fds = child.channel.receive()
        except ChannelClosed:
            # Closed, so that nobody finds it readable again before the process has been reaped.
            self._selector.unregister(child.channel)
            child.channel.close()
            return
        if isinstance(msg, messages.OutputPipes):
            assert child.book is not None
            self._output.collect(msg.pid, fds, child.book.log)
        elif isinstance(msg, messages.Prepare) and self._development is not None:
            self._standby.on_loaded(msg)

    def _on_pulse(self, msg: messages.Pulse) -> None:
        """Tell the service manager; a server that hangs says nothing, and the manager ends the instance."""
        if self._sign_of_life:
            self._service.alive()
        self._service.status(msg.text)
        reloading = msg.state == "restarting"
        if reloading and not self._reloading:
            self._service.reloading()
        elif self._reloading and not reloading:
            self._service.ready()
        self._reloading = reloading

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self._server is not None and pid == self._server.pid:
                self._server_exited(self._server, status)
            elif not self._standby.exited(pid):
                self._other_exited(pid, status)

    def _server_exited(self, child: Child, status: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)
        if self._to_server is not None:
            self._to_server.discard()
        child.channel.close()
        self._server = self._to_server = None
        if self._stopping:
            return
        cause = who_killed(status, "", self._kernel, time.monotonic())
        self._log.event(logging.ERROR, f"the server {child.pid} ended: {cause}; starting another one")
        self._restarts += 1
        self._young_deaths = self._young_deaths + 1 if time.monotonic() - child.started < YOUNG else 0
        self._server_due = time.monotonic() + (YOUNG if self._young_deaths > 1 else 0.0)

    def _other_exited(self, pid: int, status: int) -> None:
        child = self._preloaders.pop(pid, None)
        book = child.book if child is not None else None
        if book is not None:
            book.preloaders.pop(pid, None)
        if child is not None and book is not None and child is book.early and not self._gave_up(status):
            # The server, which is still starting, has to hear its last words first.
            child.ended = status
            return
        if child is not None:
            self._forget_preloader(child, status)
        elif self._output.knows(pid):
            # A worker without a preloader: nobody else ends what its application has started.
            process_group.kill_rest(pid)
        self._tell_server(messages.ProcessExited(pid, status))

    def _forget_preloader(self, child: Child, status: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)
        child.channel.close()
        if child.spare is not None:
            child.spare.close()
        if self._gave_up(status):
            self._exit_code = os.WEXITSTATUS(status)
            self._stop(graceful=False)

    def _gave_up(self, status: int) -> bool:
        """Whether the framework's own command has ended because it cannot start: so does this one, with its code."""
        first = self._development is not None and self._boots == 1 and not self._has_booted
        return first and not self._stopping and os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0

    def _end_preloaders(self) -> None:
        """What the application has registered with atexit at import runs in a preloader, within the time of a stop."""
        of_stop = self._stop_due - STOP_MARGIN if self._stop_due < float("inf") else 0.0
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._preloaders:
                send_signal(pid, number)
            deadline = max(time.monotonic() + LAST_WORDS, of_stop if number == signal.SIGTERM else 0.0)
            while (self._preloaders or self._standby.ending) and time.monotonic() < deadline:
                self._turn_briefly()
        self._end_stragglers()

    def _end_stragglers(self) -> None:
        """Workers of a server that died may not have noticed yet; without their preloaders they are ours."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + LAST_WORDS
            while (left := own_processes()) and time.monotonic() < deadline:
                for pid in left:
                    send_signal(pid, number)
                self._turn_briefly()

    def _turn_briefly(self) -> None:
        for key, _ in self._selector.select(0.05):
            key.data()
        self._signals.take()
        self._reap()

    def _kill_everything(self) -> None:
        self._starts_preloaders = False
        if self._server is not None:
            for pid in descendants(os.getpid()):
                send_signal(pid, signal.SIGKILL)


def _identity_of(group: AppGroup) -> Identity | None:
    identity = identity_of(group.settings.user, group.settings.group)
    if identity is not None:
        check_reach(identity, group.spec.root)
    return identity


def _serve_group(book: GroupBook, preloader: Child | None) -> messages.ServeGroup:
    return messages.ServeGroup(
        book.group.to_json(), book.generation_for(preloader), book.last_generation, preloader is not None
    )


def _has_message(channel: Channel) -> bool:
    return channel.fileno() >= 0 and has_input(channel.fileno())


@contextlib.contextmanager
def _closing_on_error(*sockets: socket.socket) -> Iterator[None]:
    """Close these when the block fails: no process has their other ends."""
    try:
        yield
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
