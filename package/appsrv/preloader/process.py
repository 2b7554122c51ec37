"""The preloader: imports the application once, forks workers on request, reaps them and reports how they ended.

The only place that forks workers. Exactly one thread while it forks. It has two channels: one to the server, which
gives the orders and may be replaced by another server at any time, and one to the watchdog, which gets the read
ends of the workers' stdout and stderr. Where workers are spawned directly, this process becomes the worker itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from appsrv import hooks
from appsrv.app_process import exit_functions, forked_child, own_lines, own_signals
from appsrv.app_process.own_lines import complain
from appsrv.apps import monkey_patched
from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.apps.shared_routes import RouteTable
from appsrv.errors import AppLoadError
from appsrv.ipc import channel as channels
from appsrv.ipc import directions, messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.dispatcher import Dispatcher, on
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.shared_epoll import SharedEpoll
from appsrv.preloader import command_line, loader, production_checks, shared_state
from appsrv.preloader.django_urls import import_urlconf
from appsrv.preloader.loader import guarded
from appsrv.preloader.static_files import with_static_files
from appsrv.settings import sources
from appsrv.settings.table import Settings
from appsrv.system import process_group, stack_dump, unpatched
from appsrv.system.nonblocking_terminal import SOCKET as TERMINAL
from appsrv.system.process_title import set_title
from appsrv.system.root_watch import identity
from appsrv.system.users import drop_privileges
from appsrv.worker.access_log import LogRequest
from appsrv.worker.connection_handler import WSGIApplication
from appsrv.worker.process import FileWatch, Worker, WorkerContext, WorkerRole, environs, forget_files
from appsrv.wsgi.internal_request import get_status
from appsrv.wsgi.x_sendfile import with_x_sendfile

Load = Callable[[], WSGIApplication]
_IOLBF = 1


@dataclass
class _Child:
    serial: int
    server: int


class BecomeWorker(Exception):
    """This process, a fresh child or the preloader itself, is to be a worker from now on."""

    def __init__(self, worker: Worker) -> None:
        super().__init__("be a worker")
        self.worker = worker


class Preloader:
    """The preloader's loop. `run` returns when its time, or that of the worker it has become, is over."""

    def __init__(self, role: WorkerRole, server: Channel, watchdog: Channel, *, broken: bool = False) -> None:
        """`broken`: the application is one that only tells why the real one cannot be loaded."""
        self._broken = broken
        self._role = role
        self._server = server
        self._watchdog = watchdog
        self._children: dict[int, _Child] = {}
        self._context: WorkerContext | None = None
        self.loaded = False
        self.loaded_from: list[int] = []
        self._quits = False
        self._own_sigchld: Any = signal.SIG_DFL
        self._wake: tuple[int, int] | None = None
        self._dispatcher: Dispatcher[[list[int]]] = Dispatcher(
            directions.SERVER_TO_PRELOADER,
            on(messages.Attach, self._on_attach),
            on(messages.Spawn, self._on_spawn),
            on(messages.FilesChanged, self._on_files_changed),
            on(messages.Quit, self._on_quit),
        )

    def run(self, load: Load, loaded: Callable[[], None] = lambda: None) -> None:
        """Import the application, then fork a worker for each Spawn until the server says Quit or nobody is left.

        `loaded` is called in between.
        """
        set_title(f"appsrv preloader {self._role.name}")
        forked_child.on_fork(self._let_child_go)
        # What is here already is no garbage: the collector need not walk it while the application loads.
        gc.freeze()
        try:
            with forked_child.kept_out():
                application = load()
            self._role = replace(self._role, application=self._with_files(application))
        except AppLoadError as error:
            self._report_failure(error)
            return
        self._follow_patches()
        loaded()
        worker = self._fork_workers()
        if worker is not None:
            worker.run()
        own_lines.settle()

    def _follow_patches(self) -> None:
        settings, development = self._role.settings, self._role.development
        served = monkey_patched.settings_for(settings, monkey_patched.patched_by(), development=development)
        # In greenlets a development server serves as the framework's own server does: there is nothing to tell.
        if served is not settings and not (development and served.model == "gevent"):
            complain(monkey_patched.notice(served))
        self._role = replace(self._role, settings=served)

    def _with_files(self, application: WSGIApplication) -> WSGIApplication:
        """The application, with the files that appsrv serves in front of it and for it."""
        settings, development = self._role.settings, self._role.development
        if settings.environment == "production":
            for note in production_checks.notes(application):
                complain(note)
        served: WSGIApplication = guarded(
            lambda: with_static_files(
                application, settings.static, development=development, base_uri=settings.base_uri
            ),
            "static files cannot be served",
        )
        return with_x_sendfile(served, settings.sendfile_root, settings.accel_redirect)

    def _fork_workers(self) -> Worker | None:
        """Be the preloader; returns the worker that this process is to be from now on, if any."""
        try:
            self._prepare()
            self._serve()
        except BecomeWorker as change:
            return change.worker
        self._leave_to_the_end()
        return None

    def _leave_to_the_end(self) -> None:
        """The process closes its sockets by its end. Python would warn of each where the application asks for that."""
        sockets = [self._server.sock, self._watchdog.sock]
        for sock in sockets if self._context is None else [*sockets, self._context.hand_off]:
            sock.detach()

    def _report_failure(self, error: AppLoadError) -> None:
        with contextlib.suppress(ChannelClosed):
            self._server.send(messages.LoadFailed(str(error), error.traceback, error.exit_code))
        if self._role.watch is not None:
            # Nobody else has loaded anything that would have to be forgotten.
            self._role.watch(self._report_change, lambda _: None)

    def _report_change(self, paths: list[str]) -> None:
        with contextlib.suppress(ChannelClosed):
            self._server.send(messages.CodeChanged(paths))

    def _prepare(self) -> None:
        """What is done once so that the workers share memory, then listen for the ends of children."""
        self.loaded = True
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        self._own_sigchld = unpatched.on_signal(signal.SIGCHLD, _ignore)
        self._share_memory()

    def _share_memory(self) -> None:
        """Load what the first request would load, let go of what must not be shared, and keep the collector off it."""
        path = self._role.settings.warm_up_path
        if path is not None:
            status = get_status(self._role.application, path, environs(self._role)[0], agent="appsrv-warm-up")
            if status >= 400:
                complain(f"the warm-up request GET {path} was answered with {status}")
        if self._role.settings.spawn_method == "direct":
            return
        hooks.run_before_fork()
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate()[1:])
            complain(
                f"threads started while loading do not live on in the workers: {names} (see --spawn-method direct)"
            )
        shared = shared_state.warning(shared_state.findings())
        if shared:
            complain(shared)
        gc.collect()
        gc.freeze()

    def _serve(self) -> None:
        assert self._wake is not None
        with contextlib.suppress(ChannelClosed):
            while self._children or not self._quits:
                server, watchdog, wake = self._server.fileno(), self._watchdog.fileno(), self._wake[0]
                ready, _, _ = unpatched.select([server, watchdog, wake], [], [])
                if wake in ready:
                    os.read(wake, 512)
                    self._reap()
                if watchdog in ready:
                    break
                if server in ready:
                    self._dispatcher.handle_message(*self._server.receive())
        self._outlive_workers()

    def _quit(self, quits: bool) -> None:
        """Whether this process ends with its last worker: what the application has registered with atexit runs then."""
        self._quits = quits
        # While that runs the watchdog may already ask this process to end; it kills it when the time of a stop is over.
        # A handler, since what the exit functions start would inherit SIG_IGN and could not be ended by SIGTERM.
        if quits:
            own_signals.handle(signal.SIGTERM, _ignore)
        else:
            unpatched.on_signal(signal.SIGTERM, signal.SIG_DFL)

    def _outlive_workers(self) -> None:
        """Wait for the workers where the server or the watchdog has gone."""
        self._quit(True)
        assert self._wake is not None
        while self._children:
            unpatched.select([self._wake[0]], [], [])
            os.read(self._wake[0], 512)
            with contextlib.suppress(ChannelClosed):
                self._reap()

    def _on_files_changed(self, order: messages.FilesChanged, _fds: object) -> None:
        if self._role.watch is not None:
            forget_files(self._role.watch, order.paths)

    def _on_quit(self, _order: messages.Quit, _fds: object) -> None:
        self._reap()
        self._quit(True)

    def _on_attach(self, order: messages.Attach, fds: list[int]) -> None:
        """Work for this server from now on; workers of another one have seen the end of their channels."""
        if self._context is not None:
            self._context.close()
        if self._quits:
            # The server that had told it to end is no more, and this one goes on with it.
            self._quit(False)
        hand_off = unpatched.without_timeout(unpatched.Socket(fileno=fds[0]))
        board = Scoreboard(fds[1], order.slots, order.cells)
        idle = SharedEpoll(fds[2]) if order.queue == "epoll" else fds[2]
        routes = RouteTable(fds[3]) if len(fds) > 3 else None
        self._context = WorkerContext(order.server, hand_off, board, idle, routes)
        settings = self._role.settings
        loaded = messages.Loaded(
            self._broken, production_checks.settings_module(), self.loaded_from, settings.model, settings.concurrency
        )
        self._server.send(loaded)

    # -- making workers -----------------------------------------------------------------------------------------------

    def _on_spawn(self, order: messages.Spawn, fds: list[int]) -> None:
        assert self._context is not None
        if order.become:
            self._stop_listening_for_children()
            raise BecomeWorker(self._worker(order, fds))
        try:
            pid, pipes = _fork_with_pipes()
        except OSError as error:
            channels.close_all(fds)
            self._server.send(messages.Spawned(self._context.server, order.serial, -1, str(error)))
            return
        if pid == 0:
            self._shed()
            raise BecomeWorker(self._worker(order, fds))
        channels.close_all(fds)
        self._children[pid] = _Child(order.serial, self._context.server)
        self._watchdog.send(messages.OutputPipes(pid), pipes)
        channels.close_all(pipes)
        self._server.send(messages.Spawned(self._context.server, order.serial, pid))

    def _worker(self, order: messages.Spawn, fds: list[int]) -> Worker:
        assert self._context is not None
        self._mark_first(order.first)
        channel, *changes = map(Channel.from_fd, fds)
        return Worker(
            self._role, self._context, channel, order.slot, first=order.first, check=order.check,
            changes=changes[0] if changes else None,
        )

    def _mark_first(self, first: bool) -> None:
        # Schedulers of applications ask these variables whether they are in the one process that may run them.
        if self._role.development and not first:
            for name in ("RUN_MAIN", "WERKZEUG_RUN_MAIN"):
                sources.take_variable(name)

    def _shed(self) -> None:
        """In a worker: drop what is the preloader's."""
        exit_functions.leave_to_parent()
        shared_state.reseed()
        self._children.clear()
        for channel in (self._server, self._watchdog):
            channel.close()
        if self._wake is not None:
            self._stop_listening_for_children()
            channels.close_all(self._wake)
            self._wake = None

    def _let_child_go(self) -> None:
        """In a child of the application's, forked at import or in a hook: nothing of the preloader is its own."""
        set_title(forked_child.title(self._role.name))
        self._shed()
        if self._context is not None:
            self._context.close()

    def _stop_listening_for_children(self) -> None:
        signal.set_wakeup_fd(-1)
        # What the application has chosen at import; None stands for a handler that is not Python's.
        chosen = self._own_sigchld
        unpatched.on_signal(signal.SIGCHLD, signal.SIG_DFL if chosen is None else chosen)

    def _reap(self) -> None:
        # By pid, not -1: the application may have children of its own.
        for pid in list(self._children):
            try:
                done, status = unpatched.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                # The application has waited for all children, ours included: how this one ended is lost.
                done, status = pid, 0
            if done:
                child = self._children.pop(pid)
                if self._role.upstream is not None:
                    process_group.kill_rest(pid)
                self._server.send(messages.WorkerExited(child.server, child.serial, pid, status))


def _fork_with_pipes() -> tuple[int, list[int]]:
    """(pid, read ends of the child's stdout and stderr); in the child (0, [])."""
    out, err = os.pipe(), os.pipe()
    own_lines.flush()
    try:
        with warnings.catch_warnings():
            # From Python 3.12 on, fork(2) beside threads is warned of once the child is there. Made an error by the
            # application's filters, or by -W error, that would end the preloader.
            warnings.simplefilter("ignore")
            pid = forked_child.fork_for_appsrv(unpatched.fork)
    except OSError:
        channels.close_all(out + err)
        raise
    if pid == 0:
        try:
            os.dup2(out[1], 1)
            os.dup2(err[1], 2)
            channels.close_all(out + err)
        except OSError:
            # Never may a child go on as a second preloader.
            os._exit(1)
        return 0, []
    channels.close_all((out[1], err[1]))
    return pid, [out[0], err[0]]


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """SIGCHLD only has to wake the loop; SIGTERM has no effect on a process that ends already."""


# -- the process ------------------------------------------------------------------------------------------------------


def prepare_process() -> None:
    """Output line by line, also that of C code; the stack of a segfault on stderr; quiet on the terminal's signals."""
    for stream in own_lines.pipes():
        stream.reconfigure(line_buffering=True, write_through=False)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)
    faulthandler.enable(file=2)
    forked_child.watch()
    own_signals.do_nothing_at(signal.SIGINT)
    own_signals.do_nothing_at(signal.SIGHUP)


def configuration(channel: Channel) -> messages.Configure:
    """The first message of the watchdog; with its end this process is the user's that it names."""
    first, _ = channel.receive_one(messages.Configure)
    # While the run directory can be written to: it stays the watchdog's.
    stack_dump.listen(first.run_directory)
    settings = Settings.from_json(first.settings)
    drop_privileges(settings.user, settings.group)
    return first


def role_of(
    configure: messages.Configure, *, watch: FileWatch | None = None, log_request: LogRequest | None = None
) -> WorkerRole:
    """What the configuration asks for; the application is still to come."""
    group = AppGroup.from_json(configure.group)
    return WorkerRole(
        name=group.name, application=_not_loaded, settings=group.settings, listeners=configure.listeners,
        development=configure.development, log_request=log_request, watch=watch,
        terminal=os.path.join(configure.run_directory, TERMINAL),
    )


def _not_loaded(environ: object, start_response: object) -> list[bytes]:
    raise AppLoadError("the application has not been loaded")


def main(server_fd: int, watchdog_fd: int) -> None:
    """A preloader started by the watchdog for an application it can import by name."""
    prepare_process()
    watchdog = Channel.from_fd(watchdog_fd)
    configure = configuration(watchdog)
    group = AppGroup.from_json(configure.group)
    spec = group.spec
    sources.extend_environment(loader.application_environment(spec, sources.environment()))
    role = role_of(configure)
    if spec.start_command is not None:
        _run_generic(role, spec, configure, Channel.from_fd(server_fd), watchdog)
        return
    command_line.take_over(spec, sys.modules["__main__"])

    def load() -> WSGIApplication:
        if role.settings.model == "gevent":
            from appsrv.worker import greenlets

            greenlets.patch()
        application = loader.load(spec)
        guarded(lambda: import_urlconf(role.settings.base_uri), "the URLconf cannot be imported")
        return application

    _preloader_of(spec, role, Channel.from_fd(server_fd), watchdog).run(load)


def _preloader_of(spec: AppSpec, role: WorkerRole, server: Channel, watchdog: Channel) -> Preloader:
    process = Preloader(role, server, watchdog)
    process.loaded_from = list(identity(spec.root))
    return process


def _run_generic(
    role: WorkerRole, spec: AppSpec, configure: messages.Configure, server: Channel, watchdog: Channel
) -> None:
    """A preloader of a generic application: nothing of it is loaded but the proxy in front of its processes."""
    from appsrv.worker import greenlets

    assert spec.start_command is not None
    greenlets.patch()
    from appsrv.generic.process import UpstreamProcess
    from appsrv.generic.proxy_app import GenericApplication

    settings = role.settings
    kind = dict.fromkeys(("NODE_ENV", "RACK_ENV", "RAILS_ENV"), settings.environment)
    upstream = UpstreamProcess(
        spec.start_command, root=spec.root, directory=configure.upstreams, environ={**kind, **sources.environment()},
        start_timeout=settings.start_timeout, stop_timeout=settings.stop_timeout,
    )

    def load() -> WSGIApplication:
        loader.change_directory(spec.root)
        return GenericApplication(upstream)

    _preloader_of(spec, replace(role, upstream=upstream), server, watchdog).run(load)
