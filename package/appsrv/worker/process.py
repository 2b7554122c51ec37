"""A worker: takes connections from the ready queue and serves one per thread at a time, until it is told to retire.

It runs in the process that has the application. It imports neither gevent nor psutil nor click, so that the application
finds its process as its author left it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

from appsrv import hooks
from appsrv.app_process import forked_child, own_lines, own_signals
from appsrv.app_process.own_lines import complain
from appsrv.errors import NotStarted
from appsrv.ipc import connection_messages, directions, messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.dispatcher import Dispatcher, on
from appsrv.ipc.hand_off import WAIT_MS
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Slot
from appsrv.net.shared_epoll import SharedEpoll
from appsrv.system import unpatched
from appsrv.system.process_title import set_title
from appsrv.worker.busy_threads import LastThreads
from appsrv.worker.debugger_terminal import DebuggerTerminal
from appsrv.worker.handler_setup import make_handlers
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
from appsrv.worker.role import FileWatch, WorkerContext, WorkerRole, environs, forget_files
from appsrv.worker.stream_cutter import StreamCutter, threads_frames
from appsrv.worker.thread_leadership import Leadership
from appsrv.wsgi.internal_request import get_status, is_unhealthy


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
        self._handlers = make_handlers(
            role, context, self._slot, self._queue, self._terminal, self._report_removed_fields
        )
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

    def _report_removed_fields(self, why: str, address: str, names: list[str]) -> None:
        if not address and self._role.settings.proxy_protocol:
            # The PROXY protocol header named no client, so that there is no address to report.
            return
        with contextlib.suppress(ChannelClosed, OSError):
            self._channel.send(messages.FieldsRemoved(why, address, names))

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
