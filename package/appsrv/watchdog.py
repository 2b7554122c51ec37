"""The watchdog: the command you started. Owns what must outlive everything else, and starts the others again.

Its own are the listening sockets, the run directory, the pid file, the server log and the signals. Small on purpose: no
gevent, no application code, one loop. It keeps a duplicate of each preloader's channel, so that a server that died is
replaced without importing the application again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import setproctitle

from appsrv import channel as channels
from appsrv import message, trace
from appsrv.channel import Channel, ChannelClosed, Outbox
from appsrv.collector import Collector
from appsrv.config import Settings
from appsrv.death import who_killed
from appsrv.errors import AppsrvError, failure_of
from appsrv.family import become_subreaper, descendants, own_processes, send_signal
from appsrv.loader import AppSpec
from appsrv.out_of_memory import OutOfMemoryKills
from appsrv.privileges import check_reach, identity_of
from appsrv.resources import Resources
from appsrv.service import SERVICE_VARIABLES, Notifier, watchdog_interval
from appsrv.signals import Signals
from appsrv.terminal import Terminal
from appsrv.terminal_lender import TerminalLender, can_lend

LAST_WORDS = 2.0
# What the server may take beyond the time it was given to stop.
STOP_MARGIN = 5.0
YOUNG = 1.0
PULSE = 1.0
# How often, in seconds, it is tried to send what a server had no room for.
FLUSH = 0.25
# The application's directory must not be able to shadow a module of ours or of the library.
_BOOT = "import sys; sys.path[:] = filter(None, sys.path); from appsrv.{0} import main; main(*map(int, sys.argv[1:]))"


@dataclass
class _Child:
    """A server or a preloader, as its parent knows it."""

    pid: int
    channel: Channel
    started: float
    group: str = ""
    generation: int = 0
    serial: int = 0
    spare: socket.socket | None = None
    ended: int | None = None


@dataclass(frozen=True)
class Development:
    """What makes an instance a development server: the command that is run again as its preloader."""

    argv: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


class Watchdog:
    """One running instance, from the sockets to the last word in the log."""

    def __init__(
        self, settings: Settings, spec: AppSpec, environ: Mapping[str, str], development: Development | None
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._identity = identity_of(settings.user, settings.group)
        if self._identity is not None:
            check_reach(self._identity, spec.root)
        self._environ = {name: value for name, value in environ.items() if name not in SERVICE_VARIABLES}
        self._service = Notifier(environ)
        self._sign_of_life = watchdog_interval(environ, os.getpid())
        self._reloading = False
        self._development = development
        self.resources = Resources(settings, spec, environ, self._identity, development=development is not None)
        self._selector = selectors.DefaultSelector()
        self._server: _Child | None = None
        self._to_server: Outbox | None = None
        self._preloaders: dict[int, _Child] = {}
        self._early: _Child | None = None
        self._generation = 0
        self._serving = 0
        self._restarts = 0
        self._stopping = False
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

    def run(self) -> int:
        """Serve until told to stop; returns the exit code. Raises what kept the first generation from booting."""
        setproctitle.setproctitle("appsrv watchdog")
        self._log = self.resources.log
        self._output = Collector(self._selector, self._log)
        trace.listen(self.resources.directory.path)
        become_subreaper()
        self._signals = Signals(self._selector)
        lender = None
        try:
            self._warn_of_root()
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
            self._log.close()
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
        if os.geteuid() == 0 and self._identity is None and self._development is None:
            self._log.event(logging.WARNING, "the application runs as root: name another user with --user")

    def _turn(self) -> None:
        if self._server is None and time.monotonic() >= self._server_due and not self._stopping:
            self._try_to_start_server()
        if self._server is not None and time.monotonic() >= self._stop_due:
            self._stop_due = float("inf")
            self._log.event(logging.ERROR, f"the server {self._server.pid} does not stop and is killed")
            send_signal(self._server.pid, signal.SIGKILL)
        if self._to_server:
            self._to_server.flush()
        for key, _ in self._selector.select(self._patience()):
            key.data()
        self._output.say_due()
        for number in self._signals.take():
            self._on_signal(number)

    def _patience(self) -> float | None:
        due = min(self._server_due if self._server is None else self._stop_due, self._output.due)
        if self._to_server:
            due = min(due, time.monotonic() + FLUSH)
        return max(0.0, due - time.monotonic()) if due < float("inf") else None

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._tell_server(message.RestartRequested())
        elif number == signal.SIGUSR1:
            self._tell_server(message.ReopenLogs())
            self._reopen_log()
        elif number in (signal.SIGTTIN, signal.SIGTTOU):
            self._tell_server(message.ResizePool(1 if number == signal.SIGTTIN else -1))
        elif number == signal.SIGINT:
            self._kill_everything() if self._stopping else self._stop(graceful=False)
        elif not self._stopping:
            # Another TERM is no reason to begin the time anew.
            self._stop(graceful=True)

    def _stop(self, *, graceful: bool) -> None:
        self._stopping = True
        self._service.stopping()
        self._stop_due = time.monotonic() + (self._settings.stop_timeout if graceful else 0.0) + STOP_MARGIN
        self._tell_server(message.StopRequested(graceful))

    def _reopen_log(self) -> None:
        self._log.reopen()
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
        with contextlib.closing(theirs):
            pid = self._spawn("server", [theirs], {})
        # A server that hangs must not make the watchdog wait, which has to end it.
        ours.setblocking(False)
        self._server = _Child(pid, Channel(ours), time.monotonic())
        self._to_server = Outbox(self._server.channel)
        alive = self._serving_preloader()
        tried = 0 if self._early is not None else self._serving or self._generation
        generation = tried if alive is None else alive.generation
        configure = self._configure(generation, have_preloader=alive is not None)
        sockets = [*self.resources.sockets, *self.resources.metrics_sockets]
        self._to_server.send(configure, [sock.fileno() for sock in sockets])
        self._selector.register(ours, selectors.EVENT_READ, self._from_server)
        if alive is not None:
            self._introduce(alive)

    def _serving_preloader(self) -> _Child | None:
        """The one to go on with; all others, which the dead server had, are ended."""
        usable = [p for p in self._preloaders.values() if p.spare is not None and p is not self._early]
        chosen = min(usable, key=lambda child: (child.generation != self._serving, child.generation), default=None)
        for child in self._preloaders.values():
            if child is not chosen and child is not self._early:
                send_signal(child.pid, signal.SIGTERM)
        return chosen

    def _configure(self, generation: int, *, have_preloader: bool = False) -> message.Configure:
        resources = self.resources
        return message.Configure(
            settings=self._settings.to_json(),
            app=self._spec.to_json(),
            listeners=[made.to_json() for made in resources.listeners],
            instance=resources.info.to_json(),
            run_directory=str(resources.directory.path),
            development=self._development is not None,
            generation=generation,
            last_generation=self._generation,
            have_preloader=have_preloader,
            restarts=self._restarts,
            bind_errno=resources.bind_errno,
            metrics_sockets=len(resources.metrics_sockets),
            multiproc=resources.multiproc,
            bind_reason=resources.bind_reason,
            pulse=min(PULSE, self._sign_of_life or PULSE) if self._service.wanted else 0.0,
        )

    def _start_early(self) -> None:
        """Start what the server is going to ask for first while it starts itself: two processors are busy then."""
        serial = 1 if self._settings.spawn_method == "direct" else 0
        if self._settings.min_instances or not serial:
            self._early = self._make_preloader(message.StartPreloader(self._spec.name, 1, serial))

    def _try_to_start_preloader(self, order: message.StartPreloader) -> None:
        try:
            self._start_preloader(order)
        except OSError as error:
            self._tell_server(message.PreloaderNotStarted(order.generation, order.serial, str(error)))

    def _start_preloader(self, order: message.StartPreloader) -> None:
        child, self._early = self._early, None
        if child is None or (child.generation, child.serial) != (order.generation, order.serial):
            child = self._make_preloader(order)
        self._introduce(child)
        if child.ended is not None:
            self._forget_preloader(child, child.ended)
            self._tell_server(message.ProcessExited(child.pid, child.ended))
        if order.serial and child.spare is not None:
            # A process that becomes a worker is of use to the server that asked for it alone.
            child.spare.close()
            child.spare = None

    def _make_preloader(self, order: message.StartPreloader) -> _Child:
        server_end, preloader_end = channels.pair()
        ours, theirs = channels.pair()
        fds = [preloader_end, theirs]
        environ = {"PYTHONUNBUFFERED": "1", "APPSRV_ENV": self._settings.environment}
        if self.resources.multiproc:
            environ["PROMETHEUS_MULTIPROC_DIR"] = self.resources.multiproc
        if self._identity is not None:
            environ |= self._identity.variables
        if self._development is not None:
            environ |= self._development.environ
            self._boots += 1
            environ["APPSRV_BOOT"] = str(self._boots)
            environ["APPSRV_PRELOADER"] = ",".join(str(sock.fileno()) for sock in fds)
            pid = self._spawn_command(self._development.argv, fds, environ)
        else:
            pid = self._spawn("preloader", fds, environ)
        preloader_end.close()
        theirs.close()
        child = _Child(
            pid, Channel(ours), time.monotonic(), order.group, order.generation, order.serial, server_end
        )
        self._preloaders[pid] = child
        self._generation = max(self._generation, order.generation)
        child.channel.send(self._configure(order.generation))
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._from_preloader(child))
        return child

    def _introduce(self, child: _Child) -> None:
        assert child.spare is not None
        started = message.PreloaderStarted(child.group, child.generation, child.serial, child.pid)
        self._tell_server(started, [child.spare.fileno()])

    def _spawn(self, module: str, fds: Sequence[socket.socket], environ: Mapping[str, str]) -> int:
        argv = [sys.executable, "-c", _BOOT.format(module), *(str(sock.fileno()) for sock in fds)]
        return self._spawn_command(argv, fds, environ, is_server=module == "server")

    def _spawn_command(
        self, argv: Sequence[str], fds: Sequence[socket.socket], environ: Mapping[str, str], *, is_server: bool = False
    ) -> int:
        """Start a process in a process group of its own, with these descriptors, its output on pipes to here."""
        out, err = _two_pipes()
        for sock in fds:
            os.set_inheritable(sock.fileno(), True)
        actions = [(os.POSIX_SPAWN_DUP2, out[1], 1), (os.POSIX_SPAWN_DUP2, err[1], 2)]
        try:
            pid = os.posix_spawn(
                argv[0], list(argv), {**self._environ, **environ}, file_actions=actions, setpgroup=0,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ], setsigmask=[],
            )
        except OSError:
            channels.close_all((out[0], err[0]))
            raise
        finally:
            for sock in fds:
                os.set_inheritable(sock.fileno(), False)
            channels.close_all((out[1], err[1]))
        self._output.collect(pid, (out[0], err[0]), is_server=is_server)
        return pid

    # -- what they say ------------------------------------------------------------------------------------------------

    def _tell_server(self, msg: message.Message, fds: Sequence[int] = ()) -> None:
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
        if isinstance(msg, message.StartPreloader):
            if not self._stopping:
                self._try_to_start_preloader(msg)
        elif isinstance(msg, message.StopInstance):
            self._stop(graceful=True)
        elif isinstance(msg, message.ReopenLogs):
            self._reopen_log()
        elif isinstance(msg, message.Booted):
            self._has_booted = True
            self._service.ready()
            self.booted()
        elif isinstance(msg, message.Serving):
            self._serving = msg.generation
        elif isinstance(msg, message.Pulse):
            self._on_pulse(msg)
        elif isinstance(msg, message.BootFailed):
            self._boot_failed(msg)
        elif isinstance(msg, message.LastWordsWanted):
            self._tell_last_words(msg.pid)

    def _boot_failed(self, msg: message.BootFailed) -> None:
        self._failure = failure_of(msg.exit_code, msg.message, msg.traceback)
        self._stop(graceful=False)

    def _tell_last_words(self, pid: int) -> None:
        # The server has claimed what the kernel has killed until now.
        self._kernel.settle()
        for child in list(self._preloaders.values()):
            while not self._output.knows(pid) and _readable(child.channel):
                self._from_preloader(child)
        self._tell_server(message.LastWords(pid, self._output.last_lines(pid)))

    def _from_preloader(self, child: _Child) -> None:
        try:
            msg, fds = child.channel.receive()
        except ChannelClosed:
            # Closed, so that nobody finds it readable again before the process has been reaped.
            self._selector.unregister(child.channel)
            child.channel.close()
            return
        if isinstance(msg, message.OutputPipes):
            self._output.collect(msg.pid, fds)

    def _on_pulse(self, msg: message.Pulse) -> None:
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
            else:
                self._other_exited(pid, status)

    def _server_exited(self, child: _Child, status: int) -> None:
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
        if child is not None and child is self._early and not self._gave_up(status):
            # The server, which is still starting, has to hear its last words first.
            child.ended = status
            return
        if child is not None:
            self._forget_preloader(child, status)
        self._tell_server(message.ProcessExited(pid, status))

    def _forget_preloader(self, child: _Child, status: int) -> None:
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
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._preloaders:
                send_signal(pid, number)
            deadline = time.monotonic() + LAST_WORDS
            while self._preloaders and time.monotonic() < deadline:
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
        if self._server is not None:
            for pid in descendants(os.getpid()):
                send_signal(pid, signal.SIGKILL)


def _readable(channel: Channel) -> bool:
    return channel.fileno() >= 0 and bool(select.select([channel], [], [], 0)[0])


def _two_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    out = os.pipe()
    try:
        return out, os.pipe()
    except OSError:
        channels.close_all(out)
        raise
