"""A worker: takes connections from the ready queue and serves one per thread at a time, until it is told to retire.

It runs in the process that has the application. It imports neither gevent nor psutil nor click, so that the application
finds its process as its author left it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, Protocol

from appsrv import hooks
from appsrv.app_process import forked_child, own_lines, own_signals
from appsrv.app_process.own_lines import complain
from appsrv.apps.shared_routes import RouteTable
from appsrv.errors import NotStarted
from appsrv.http.syntax import RequestHead
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.ipc import connection_messages, directions, messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.dispatcher import Dispatcher, on
from appsrv.ipc.hand_off import WAIT_MS
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard, Slot
from appsrv.logs.access_log import AccessLog, destination
from appsrv.net.arrival_time import StampedSocket
from appsrv.net.shared_epoll import SharedEpoll
from appsrv.settings.request_limits import limits_of
from appsrv.settings.table import Settings
from appsrv.system import unpatched
from appsrv.system.process_title import set_title
from appsrv.worker.access_log import LogRequest, WorkerAccessLog
from appsrv.worker.busy_threads import LastThreads
from appsrv.worker.connection_handler import ConnectionHandler, HandlerOptions, WSGIApplication
from appsrv.worker.debugger_terminal import DebuggerTerminal, TerminalConnectionHandler
from appsrv.worker.labelled_output import finish_output, forget_pieces, guard_output, label_output
from appsrv.worker.ready_queue import (
    DEVELOPMENT_WAIT_MS,
    Connection,
    EpollQueue,
    NonblockingEpollQueue,
    NonblockingPortableQueue,
    Orphaned,
    PortableQueue,
    ReadyQueue,
)
from appsrv.worker.response_writer import ResponseBuffer
from appsrv.worker.stream_cutter import StreamCutter, threads_frames
from appsrv.worker.thread_leadership import Leadership
from appsrv.wsgi.environ import environ_base
from appsrv.wsgi.internal_request import get_status, is_unhealthy
from appsrv.wsgi.probe import with_probe
from appsrv.wsgi.removed_fields import Reporter
from appsrv.wsgi.request_id import with_request_id

ReportPaths = Callable[[list[str]], None]


class FileWatch(Protocol):
    """Watches files in a development server; an integration has it."""

    def __call__(self, code_changed: ReportPaths, files_changed: ReportPaths, /) -> None:
        """Watch, and report the files that have changed. Runs in one process only, until that process ends.

        `code_changed`: the application has to be loaded again. `files_changed`: this process has forgotten what it
        remembered of the files, and the other processes are to do so, too.
        """

    def heed(self, paths: list[str], /) -> None:
        """Forget, in this process, what is remembered of these files."""


def forget_files(watch: FileWatch, paths: list[str]) -> None:
    """Have `watch` forget these files. An exception that it raises is printed and changes nothing else."""
    try:
        watch.heed(paths)
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


class Worker:
    """One worker, in its own process. `run` returns when the worker has retired."""

    def __init__(
        self, role: WorkerRole, context: WorkerContext, channel: Channel, slot: int, *, first: bool, check: bool,
        changes: Channel | None = None,
    ) -> None:
        """`changes`: the channel with reports of changed files, except for the first worker, which watches the files
        itself.
        """
        self._role = role
        self._channel = channel
        self._context = context
        self._board = context.board
        self._slot = context.board.slot(slot)
        self._queue = _ready_queue(context, channel, self._slot, waits=role.settings.model != "gevent")
        self._terminal = DebuggerTerminal(role.terminal, self._slot)
        self._handlers = self._make_handlers(context.routes)
        wait_ms = DEVELOPMENT_WAIT_MS if role.development else WAIT_MS
        if role.development:
            self._queue.wait_at_most(wait_ms)
        self._leadership = Leadership(self._queue.fileno(), self._turn, wait_ms)
        self._stream_cutter = (
            StreamCutter(self._slot, self._cut, self._exit, lambda: self._stacks()) if role.development else None
        )
        self._first = first
        self._check = check
        self._changes = changes
        self._threads = self._last_threads()
        self._finishing = unpatched.Lock()
        self._retiring = False
        self._calls = self._slot.attention
        self._wake: Callable[[], object] = lambda: None
        self._stacks: Callable[[], Iterable[FrameType]] = threads_frames

    def run(self) -> None:
        """Serve until told to retire, then finish what has been taken."""
        self._prepare_process()
        if self.serve():
            self._wind_down()

    def _prepare_process(self) -> None:
        """Turn a fork of the preloader into a process that serves."""
        set_title(f"appsrv worker {self._role.name}")
        forked_child.on_fork(self.close_in_child)
        self._handle_signals()
        if self._role.settings.label_output:
            label_output(own_lines.pipes(), live=self._role.development)
        else:
            guard_output(own_lines.pipes())
        self._terminal.install()
        gc.enable()
        if self._role.settings.model == "gevent":
            from appsrv.worker import greenlets

            greenlets.renew()
        hooks.run_after_fork()
        if self._stream_cutter is not None:
            self._stream_cutter.watch()
        if self._role.watch is not None:
            file_watcher = self.watch_files if self._first else self.receive_file_changes
            # Not by `threading`: the application may have made that cooperative, and this thread blocks.
            unpatched.start_thread(file_watcher, (self._role.watch,))

    def serve(self) -> bool:
        """Serve until told to retire; False when this worker ends without having become ready."""
        with contextlib.suppress(ChannelClosed):
            if not self._start_upstream():
                return False
            if self._check and not self._is_healthy():
                self._stop_upstream()
                return False
            self._channel.send(messages.Ready(os.getpid()))
            if self._role.settings.model == "gevent":
                self._run_greenlets()
            elif self._role.settings.threads > 1:
                self._leadership.run(self._role.settings.threads)
            else:
                self._run_alone()
        return True

    def _wind_down(self) -> None:
        """After the last request: wait for the application's own threads and children, as far as the settings say."""
        self._threads.wait()
        self.finish()
        # In development no line is written for each save: the frameworks' own servers drop such threads silently, too.
        # At SIGTERM they do not wait for children either.
        self._threads.report_threads(of_daemons=not self._role.development)
        self._threads.report_children(waits=not self._role.development)
        self._stop_upstream()
        own_lines.prepare_exit()

    def _last_threads(self) -> LastThreads:
        settings, slot = self._role.settings, self._slot

        def count(threads: int) -> None:
            slot.busy_threads = threads

        most = settings.busy_threads_timeout if settings.busy_threads == "wait" else 0.0
        return LastThreads(self._report_threads, count, most, settings.stop_timeout)

    def _report_threads(self, text: str) -> None:
        if self._role.upstream is None:
            complain(text)

    def finish(self) -> None:
        """Send the messages that are still kept back, and run the application's exit functions, once."""
        if self._finishing.acquire(blocking=False):
            with contextlib.suppress(Orphaned):
                self._queue.flush()
            hooks.run_worker_exit()

    def close_in_child(self) -> None:
        """In a child of the application: close the connections, and all that leads to the server."""
        set_title(forked_child.title(self._role.name))
        forget_pieces()
        self._terminal.close_in_child()
        for handler in self._handlers:
            handler.close_in_child()
        self._queue.close_in_child()
        for channel in (self._channel, self._changes):
            if channel is not None:
                channel.close()
        self._context.close()
        if self._role.settings.model == "gevent":
            from appsrv.worker import greenlets

            greenlets.close_in_child(lambda: forked_child.exit_child(0))

    def _start_upstream(self) -> bool:
        """Start the process of an application in another language; False: the worker is to retire.

        Where it does not start, end this worker, too.
        """
        if self._role.upstream is None:
            return True
        try:
            return self._role.upstream.start(lambda: self._retiring or self._slot.retiring, self._upstream_ended)
        except NotStarted as error:
            complain(str(error))
            self._channel.send(messages.StartFailed(str(error), error.ended))
            if error.ended:
                self._role.upstream.end_worker_like_it()
            sys.exit(error.exit_code)

    def _upstream_ended(self) -> None:
        with contextlib.suppress(ChannelClosed):
            self._channel.send(messages.UpstreamEnded())

    def _stop_upstream(self) -> None:
        if self._role.upstream is not None:
            self._role.upstream.stop()

    def _is_healthy(self) -> bool:
        """Request `health_path` from the application, and report a bad answer to the server."""
        settings = self._role.settings
        assert settings.health_path is not None
        environ = environs(self._role)[0]
        agent, host = "appsrv-health-check", settings.health_host
        status = get_status(self._role.application, settings.health_path, environ, agent=agent, host=host)
        if is_unhealthy(status):
            reason = f"the health check GET {settings.health_path} was answered with {status}"
            self._channel.send(messages.Unhealthy(reason))
        return not is_unhealthy(status)

    def _run_alone(self) -> None:
        """The loop of a worker with one thread, which shares the queue with no other thread."""
        take, serve, calls, clock = self._queue.take, self._handlers[0].serve, self._calls, time.monotonic
        with contextlib.suppress(Orphaned):
            while not self._retiring:
                connection = take()
                if connection is None or calls[0]:
                    connection = self._read_messages(connection)
                if connection is not None:
                    serve(connection, clock())

    def _run_greenlets(self) -> None:
        from appsrv.worker.greenlets import Greenlets

        orders, upstream = self._channel.fileno(), self._role.upstream
        greenlets = Greenlets(
            queue=self._queue, handlers=self._handlers, orders=orders, calls=self._calls,
            read_messages=self._read_messages, retiring=lambda: self._retiring, slot=self._slot, board=self._board,
            on_retire=upstream.retire if upstream is not None else None,
        )
        self._wake, self._stacks = greenlets.wake, greenlets.frames
        greenlets.run()

    def _turn(self, me: int) -> bool:
        """Take one connection and serve it; False when this worker takes nothing more."""
        try:
            with self._leadership.taking:
                connection = self._take()
            if connection is not None:
                self._leadership.busy()
                self._handlers[me].serve(connection, time.monotonic())
        except Orphaned:
            self._retiring = True
        return not self._retiring

    def _take(self) -> Connection | None:
        connection = self._queue.take()
        if connection is None or self._calls[0] or self._retiring:
            return self._read_messages(connection)
        return connection

    def _read_messages(self, connection: Connection | None) -> Connection | None:
        """Read the server's messages. A worker that is to retire passes on what it has just taken."""
        self._calls[0] = 0
        self._queue.read_messages()
        self._retiring = self._retiring or self._slot.retiring
        if connection is None or connection.sock.fileno() < 0:
            # One of the messages may have been that this very connection has ended.
            return None
        if self._retiring and connection.spooled is None:
            self._queue.pass_on(connection)
            return None
        return connection

    def _access_log(self) -> WorkerAccessLog | None:
        """The log of the requests, for appsrv, for the framework or for both; None where neither has one."""
        role = self._role
        to, log = role.settings.access_log_path(framework=role.log_request is not None), None
        if to is not None:
            log = AccessLog(role.settings.access_format, destination(to, complain), complain)
            self._queue.client_socket = StampedSocket
        if log is None and role.log_request is None:
            return None
        return WorkerAccessLog(log, role.log_request, self._board, self._slot.reopen_asked)

    def _make_handlers(self, routes: RouteTable | None) -> list[ConnectionHandler]:
        role = self._role
        keep_alive = role.settings.keepalive_timeout > 0
        application = with_request_id(role.application) if role.settings.request_id else role.application
        application = with_probe(application, role.settings.probe_path, self._board.stopping)
        development = role.development or role.settings.environment == "development"
        options = HandlerOptions(
            application=application,
            limits=limits_of(role.settings),
            environs=environs(role),
            development=development,
            keep_alive=keep_alive,
            access_log=self._access_log(),
            proxies=TrustedProxies(role.settings.forwarded_allow_ips, carried=role.settings.proxy_protocol),
            buffer=_response_buffer(role.settings),
            is_ours=None if routes is None else _only_for(role.name, routes),
            underscores=role.settings.underscores_in_headers == "trusted",
            reporter=Reporter(self._fields_removed, time.monotonic),
        )
        slot, counted = self._slot, role.settings.counts_requests
        make = self._maker_of_handlers()
        handlers = [
            make(options, self._queue, slot.cell(n), slot.tally(n) if counted else None)
            for n in range(role.settings.concurrency)
        ]
        for handler in handlers:
            if isinstance(handler, TerminalConnectionHandler):
                handler.terminal = self._terminal
        return handlers

    def _fields_removed(self, why: str, address: str, names: list[str]) -> None:
        if not address and self._role.settings.proxy_protocol:
            # The PROXY protocol header named no client, so that there is no address to report.
            return
        with contextlib.suppress(ChannelClosed, OSError):
            self._channel.send(messages.FieldsRemoved(why, address, names))

    def _maker_of_handlers(self) -> Callable[..., ConnectionHandler]:
        upstream, settings = self._role.upstream, self._role.settings
        if upstream is None:
            return TerminalConnectionHandler if self._terminal.exists else ConnectionHandler
        from appsrv.worker.proxied_handler import ProxiedConnectionHandler
        from appsrv.worker.streamed_input import BodyPace

        body_pace = None if settings.buffers_bodies else BodyPace(settings.body_timeout, settings.min_data_rate)
        return functools.partial(ProxiedConnectionHandler, relays=upstream.relays, body_pace=body_pace)

    def _handle_signals(self) -> None:
        own_signals.handle(signal.SIGTERM, self.retire)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU):
            own_signals.neutralize(number)

    def retire(self, _signal: int, _frame: FrameType | None) -> None:
        """At SIGTERM: take nothing more."""
        self._retiring = True
        if self._stream_cutter is not None:
            self._stream_cutter.begin()
        self._wake()

    def _cut(self, connection: Connection) -> None:
        """End a connection in the middle of its response. The thread that sends it finds its client gone."""
        with contextlib.suppress(ChannelClosed):
            self._channel.send(connection_messages.Closed(connection.cid, linger=0, reset=1))

    def _exit(self) -> NoReturn:
        """End the process in order, except that threads which do not end are not waited for."""
        self.finish()
        self._threads.report_children(waits=False)
        # Not by sys.exit: the interpreter would wait for the threads, or meet locks that they hold.
        atexit._run_exitfuncs()
        finish_output()
        os._exit(0)

    def watch_files(self, watch: FileWatch) -> None:
        """Watch in this worker, and report what has changed to the server."""

        def report(msg: Message) -> None:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(msg)

        watch(lambda paths: report(messages.CodeChanged(paths)), lambda paths: report(messages.FilesChanged(paths)))

    def receive_file_changes(self, watch: FileWatch) -> None:
        """Forget what another worker has seen change."""
        assert self._changes is not None, "a server gives one to each worker of a development server but the first"
        dispatcher: Dispatcher[[object]] = Dispatcher(
            directions.FILES_TO_WORKER, on(messages.FilesChanged, lambda msg, _fds: forget_files(watch, msg.paths))
        )
        with contextlib.suppress(ChannelClosed):
            while True:
                dispatcher.handle_message(*self._changes.receive())


def _ready_queue(context: WorkerContext, channel: Channel, slot: Slot, *, waits: bool) -> ReadyQueue:
    if isinstance(context.idle, SharedEpoll):
        by_epoll = EpollQueue if waits else NonblockingEpollQueue
        return by_epoll(context.hand_off, channel, context.board, slot, context.idle)
    portable = PortableQueue if waits else NonblockingPortableQueue
    return portable(context.hand_off, channel, context.board, slot, context.idle)


def _response_buffer(settings: Settings) -> ResponseBuffer:
    """Where a response waits for its client, and for how long a worker waits with it."""
    return ResponseBuffer(
        memory=settings.response_buffer_memory,
        size=settings.response_buffer_size,
        directory=settings.data_buffer_dir,
        pause=settings.body_timeout,
        rate=settings.min_data_rate,
    )


def _only_for(name: str, routes: RouteTable) -> Callable[[RequestHead], bool]:
    """A function that tells whether a request is for the application of this name."""

    def is_ours(head: RequestHead) -> bool:
        variables = head.variables
        return routes.routes().find(variables.get("HTTP_HOST", ""), variables["PATH_INFO"]) == name

    return is_ours


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

