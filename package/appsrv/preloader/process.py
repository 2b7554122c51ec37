"""The preloader: imports the application once, forks workers on request, reaps them and reports how they ended.

It has two channels. The server gives orders over one of them, and another server may take its place at any time. The
watchdog gets, over the other one, the read ends of the workers' stdout and stderr. The process has exactly one thread
while it forks, unless the application has started others at its import. Where workers are spawned directly, this
process becomes the worker itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
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
from appsrv.preloader.forked_workers import ForkedWorkers
from appsrv.preloader.loader import guarded
from appsrv.preloader.setup import configuration, prepare_process, role_of
from appsrv.preloader.static_files import with_static_files
from appsrv.settings import sources
from appsrv.settings.table import Settings
from appsrv.system import process_group, unpatched
from appsrv.system.process_title import set_title
from appsrv.system.root_watch import identity
from appsrv.worker.connection_handler import WSGIApplication
from appsrv.worker.process import Worker
from appsrv.worker.role import WorkerContext, WorkerRole, environs, forget_files
from appsrv.wsgi.internal_request import get_status
from appsrv.wsgi.x_sendfile import with_x_sendfile

Load = Callable[[], WSGIApplication]

FIRST_PROCESS_VARIABLES = ("RUN_MAIN", "WERKZEUG_RUN_MAIN")
"""Set by Django and Werkzeug in the process that serves. Applications start schedulers only where one is set."""


class BecomeWorker(Exception):
    """This process is a worker from now on: a child that was just forked, or the preloader itself.

    An exception, so that no frame of the preloader's loop stays on the stack of the worker.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__("be a worker")
        self.worker = worker


class Preloader:
    """The preloader's loop. `loaded` is whether the application was imported.

    `loaded_from` is the identity of the directory that it was imported from (`root_watch.identity`).
    """

    def __init__(
        self, role: WorkerRole, *, server: Channel, watchdog: Channel, broken: bool = False,
        workers: ForkedWorkers | None = None,
    ) -> None:
        """`broken`: the application only shows why the real one cannot be loaded. `workers`: none have been forked."""
        self._broken = broken
        self._role = role
        self._server = server
        self._watchdog = watchdog
        self._workers = workers if workers is not None else ForkedWorkers()
        self._context: WorkerContext | None = None
        self.loaded = False
        self.loaded_from: list[int] = []
        self._quits = False
        # What the application has chosen at its import; None stands for a handler that is not Python's.
        self._sigchld_of_application: Any = signal.SIG_DFL
        self._wake: tuple[int, int] | None = None
        self._dispatcher: Dispatcher[[list[int]]] = Dispatcher(
            directions.SERVER_TO_PRELOADER,
            on(messages.Attach, self._on_attach),
            on(messages.Spawn, self._on_spawn),
            on(messages.FilesChanged, self._on_files_changed),
            on(messages.Quit, self._on_quit),
        )

    def run(self, load: Load, loaded: Callable[[], None] = lambda: None) -> None:
        """Import the application with `load`, call `loaded`, then fork workers as the server asks for them.

        Returns when the last worker has ended, and the server has sent Quit, or server or watchdog have gone. A worker
        returns from here, too.
        """
        set_title(f"appsrv preloader {self._role.name}")
        forked_child.on_fork(self._on_application_fork)
        # The modules of appsrv live as long as the process. Frozen, they are not walked by each collection of garbage
        # while the application loads.
        gc.freeze()
        try:
            with forked_child.ending_children():
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
        own_lines.prepare_exit()

    # -- loading ------------------------------------------------------------------------------------------------------

    def _follow_patches(self) -> None:
        """Serve with greenlets if the application has monkey-patched itself at its import."""
        settings, development = self._role.settings, self._role.development
        served = monkey_patched.settings_for(settings, monkey_patched.patched_by(), development=development)
        # The framework's own development server uses greenlets then, too: no notice.
        if served is not settings and not (development and served.model == "gevent"):
            complain(monkey_patched.notice(served))
        self._role = replace(self._role, settings=served)

    def _with_files(self, application: WSGIApplication) -> WSGIApplication:
        """The application with the files that appsrv serves in front of it, and those that the application names."""
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

    def _report_failure(self, error: AppLoadError) -> None:
        with contextlib.suppress(ChannelClosed):
            self._server.send(messages.LoadFailed(str(error), error.traceback, error.exit_code))
        if self._role.watch is not None:
            # Files are watched here, since there is no worker. No other process has loaded templates or the like that
            # it would have to forget.
            self._role.watch(self._report_change, lambda _: None)

    def _report_change(self, paths: list[str]) -> None:
        with contextlib.suppress(ChannelClosed):
            self._server.send(messages.CodeChanged(paths))

    def _share_memory(self) -> None:
        """Before the first fork: load what the first request would load, and keep the memory of all that shared.

        A fork shares each page until one of the processes writes to it. The garbage collector writes to every object
        that it walks; frozen objects are not walked.
        """
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

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _fork_workers(self) -> Worker | None:
        """Be the preloader; returns the worker that this process is from then on, if any."""
        try:
            self._listen_for_children()
            self._share_memory()
            self._serve()
        except BecomeWorker as change:
            return change.worker
        self._detach_sockets()
        return None

    def _listen_for_children(self) -> None:
        """Have SIGCHLD wake the loop."""
        self.loaded = True
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        self._sigchld_of_application = unpatched.on_signal(signal.SIGCHLD, _ignore)

    def _stop_listening_for_children(self) -> None:
        signal.set_wakeup_fd(-1)
        chosen = self._sigchld_of_application
        unpatched.on_signal(signal.SIGCHLD, signal.SIG_DFL if chosen is None else chosen)

    def _serve(self) -> None:
        assert self._wake is not None
        with contextlib.suppress(ChannelClosed):
            while self._workers or not self._quits:
                server, watchdog, wake = self._server.fileno(), self._watchdog.fileno(), self._wake[0]
                ready, _, _ = unpatched.select([server, watchdog, wake], [], [])
                if wake in ready:
                    os.read(wake, 512)
                    self._reap()
                if watchdog in ready:
                    # The watchdog sends nothing after Configure, so this is the end of its channel.
                    break
                if server in ready:
                    self._dispatcher.handle_message(*self._server.receive())
        self._wait_for_workers()

    def _wait_for_workers(self) -> None:
        """Reap the workers, which end by themselves, until none is left.

        The server or the watchdog has ended, or the server has sent Quit and no worker was left.
        """
        self._set_quits(True)
        assert self._wake is not None
        while self._workers:
            unpatched.select([self._wake[0]], [], [])
            os.read(self._wake[0], 512)
            self._reap()

    def _reap(self) -> None:
        """Reap all workers that have ended, and report them to the server."""
        for worker, status in self._workers.reap():
            if self._role.upstream is not None:
                process_group.kill_rest(worker.pid)
            # The server may have ended. The other workers that have ended are reaped all the same: the wake-up for them
            # has been read, and there will be no other one. The loop finds the end of the channel by itself.
            with contextlib.suppress(ChannelClosed):
                self._server.send(messages.WorkerExited(worker.server, worker.serial, worker.pid, status))

    def _set_quits(self, quits: bool) -> None:
        """Set whether the process ends after its last worker. It then runs what was registered with atexit at import.

        While those functions run, the watchdog may already send SIGTERM, which has to have no effect; the watchdog
        kills the process when the time of the stop is over. The signal gets a handler that does nothing, and not
        SIG_IGN: programs that the functions start would inherit that and could not be ended by SIGTERM.
        """
        self._quits = quits
        if quits:
            own_signals.handle(signal.SIGTERM, _ignore)
        else:
            unpatched.on_signal(signal.SIGTERM, signal.SIG_DFL)

    def _detach_sockets(self) -> None:
        """Leave the sockets to the end of the process: Python would warn of each with `-W error` or the like."""
        sockets = [self._server.sock, self._watchdog.sock]
        for sock in sockets if self._context is None else [*sockets, self._context.hand_off]:
            sock.detach()

    # -- messages of the server ---------------------------------------------------------------------------------------

    def _on_attach(self, order: messages.Attach, fds: list[int]) -> None:
        """Work for this server from now on.

        The server before it has died: its workers have found the ends of their channels and end by themselves.
        """
        if self._context is not None:
            self._context.close()
        if self._quits:
            # The server before had sent Quit. This one continues with the preloader.
            self._set_quits(False)
        hand_off = unpatched.without_timeout(unpatched.Socket(fileno=fds[0]))
        board = Scoreboard(fds[1], order.slots, order.cells)
        idle = SharedEpoll(fds[2]) if order.queue == "epoll" else fds[2]
        routes = RouteTable(fds[3]) if len(fds) > 3 else None
        self._context = WorkerContext(order.server, hand_off, board, idle, routes)
        settings = self._role.settings
        loaded = messages.Loaded(
            broken=self._broken, settings_module=production_checks.settings_module(), loaded_from=self.loaded_from,
            model=settings.model, concurrency=settings.concurrency,
        )
        self._server.send(loaded)

    def _on_files_changed(self, order: messages.FilesChanged, _fds: object) -> None:
        if self._role.watch is not None:
            forget_files(self._role.watch, order.paths)

    def _on_quit(self, _order: messages.Quit, _fds: object) -> None:
        self._reap()
        self._set_quits(True)

    def _on_spawn(self, order: messages.Spawn, fds: list[int]) -> None:
        assert self._context is not None
        if order.become:
            self._stop_listening_for_children()
            raise BecomeWorker(self._worker(order, fds))
        try:
            pid, pipes = self._workers.fork(serial=order.serial, server=self._context.server)
        except OSError as error:
            channels.close_all(fds)
            self._server.send(messages.Spawned(self._context.server, order.serial, -1, str(error)))
            return
        if pid == 0:
            self._drop_preloader_state()
            raise BecomeWorker(self._worker(order, fds))
        channels.close_all(fds)
        # The watchdog first. The server may ask it for the last lines of the worker as soon as it knows the pid.
        self._watchdog.send(messages.OutputPipes(pid), pipes)
        channels.close_all(pipes)
        self._server.send(messages.Spawned(self._context.server, order.serial, pid))

    # -- in a child ---------------------------------------------------------------------------------------------------

    def _worker(self, order: messages.Spawn, fds: list[int]) -> Worker:
        assert self._context is not None
        if self._role.development and not order.first:
            for name in FIRST_PROCESS_VARIABLES:
                sources.take_variable(name)
        channel, *changes = map(Channel.from_fd, fds)
        return Worker(
            self._role, self._context, channel, order.slot, first=order.first, check=order.check,
            changes=changes[0] if changes else None,
        )

    def _drop_preloader_state(self) -> None:
        """In a child: close the preloader's channels, and undo what only the preloader needs.

        With a copy of a channel in a worker, the server or the watchdog would not see the end of the preloader.
        """
        exit_functions.reset_in_child()
        shared_state.reseed()
        self._workers.forget()
        for channel in (self._server, self._watchdog):
            channel.close()
        if self._wake is not None:
            self._stop_listening_for_children()
            channels.close_all(self._wake)
            self._wake = None

    def _on_application_fork(self) -> None:
        """In a child that the application has forked, at import or in a hook: it is no worker and keeps nothing."""
        set_title(forked_child.title(self._role.name))
        self._drop_preloader_state()
        if self._context is not None:
            self._context.close()


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """SIGCHLD only has to wake the loop. SIGTERM has no effect on a process that ends already."""


# -- the process ------------------------------------------------------------------------------------------------------


def main(server_fd: int, watchdog_fd: int) -> None:
    """The preloader that the watchdog has started for an application that can be imported by its name."""
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
    _preloader_of(spec, role, Channel.from_fd(server_fd), watchdog).run(lambda: load_python(spec, role.settings))


def load_python(spec: AppSpec, settings: Settings) -> WSGIApplication:
    """Import an application in Python, with the URLconf of a Django project. Raises AppLoadError."""
    if settings.model == "gevent":
        from appsrv.worker import greenlets

        greenlets.patch()
    application = loader.load(spec)
    guarded(lambda: import_urlconf(settings.base_uri), "the URLconf cannot be imported")
    return application


def _preloader_of(spec: AppSpec, role: WorkerRole, server: Channel, watchdog: Channel) -> Preloader:
    process = Preloader(role, server=server, watchdog=watchdog)
    process.loaded_from = list(identity(spec.root))
    return process


def _run_generic(
    role: WorkerRole, spec: AppSpec, configure: messages.Configure, server: Channel, watchdog: Channel
) -> None:
    """The preloader of an application in another language: it loads the proxy to the application's processes."""
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
