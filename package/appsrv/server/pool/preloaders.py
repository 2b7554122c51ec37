"""The preloaders of one application group: requests them from the watchdog, reads their messages, dismisses them.

Identifies a preloader by its generation and, where workers are spawned directly, by the serial of the worker that it
becomes. Does not know what a message means for the pool (`manager`), nor how an application is imported (`preloader`).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import gevent
from gevent import get_hub

from appsrv.errors import ProtocolError
from appsrv.ipc import channel as channels
from appsrv.ipc import directions, messages
from appsrv.ipc.channel import Channel, ChannelClosed, Outbox
from appsrv.ipc.dispatcher import Dispatcher, UnexpectedMessage, on
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.server.frontend.parking import READABLE, Parking
from appsrv.server.pool.handles import Failure, PreloaderHandle, WorkerHandle, signal_or_delegate
from appsrv.server.pool.pool import Backoff
from appsrv.system.exit_status import attributed_cause
from appsrv.system.oom_kills import OutOfMemoryKills

log = logging.getLogger("appsrv.preloaders")

PROVEN_SECONDS = 1.0
"""A preloader that has lived for so long since it loaded the application is no failure, even if it forked no worker."""

EXIT_FUNCTIONS_SECONDS = 2.0
"""A preloader has at least so long for the exit functions of the application, where stop_timeout is shorter."""


class PreloaderEvents(NamedTuple):
    """The functions that are called for the messages and the ends of preloaders.

    `loaded`: the preloader of this generation can fork workers. `loaded_broken` (development): its workers serve a page
    with the reason why the application cannot be loaded. `load_failed`: the application could not be imported.
    `unloaded`: no more workers of this generation can be forked. `ended`: the preloader has ended without an order (the
    cause). `forked`: a worker (its serial) has a process (its pid, or -1 and the error of fork(2)). `worker_exited`: a
    worker (its serial) has ended (the status of waitpid(2)). `code_changed`: files have changed (development).
    """

    loaded: Callable[[int], None]
    loaded_broken: Callable[[int], None]
    load_failed: Callable[[PreloaderHandle, Failure], None]
    unloaded: Callable[[int], None]
    ended: Callable[[PreloaderHandle, str], None]
    forked: Callable[[int, int, str], None]
    worker_exited: Callable[[int, int], None]
    code_changed: Callable[[list[str]], None]


class Preloaders:
    """All preloaders of a group, including those that were dismissed and have not ended yet."""

    def __init__(
        self, group: str, *, board: Scoreboard, parking: Parking, events: PreloaderEvents,
        send_to_watchdog: Callable[[Message], None], kernel: OutOfMemoryKills, now: Callable[[], float],
        later: Callable[..., Any] = gevent.spawn_later, routes: Sequence[int] = (),
    ) -> None:
        """`later(seconds, function, *arguments)` calls the function after that time.

        `routes`: the descriptor of the route table, if there is one.
        """
        self._routes = routes
        self._group = group
        self._kernel = kernel
        self._events = events
        self._board = board
        self._parking = parking
        self._send_to_watchdog = send_to_watchdog
        self._now = now
        self._later = later
        self._handles: dict[tuple[int, int], PreloaderHandle] = {}
        self.asked: set[tuple[int, int]] = set()
        """(generation, serial) of the preloaders that were requested from the watchdog, before its answer."""
        self.settings_module = ""
        """Django's settings module in the preloader that was the last to load the application."""
        self.loaded_from: Sequence[int] = ()
        """The identity of the directory from which it was loaded, see `root_watch`."""
        self.model = ""
        self.concurrency = 0
        """The concurrency model in use there, and the requests that a worker serves at a time; empty before a load."""
        self._backoff = Backoff()
        self._dispatcher: Dispatcher[[PreloaderHandle]] = Dispatcher(
            directions.PRELOADER_TO_SERVER,
            on(messages.Loaded, self._on_loaded),
            on(messages.LoadFailed, self._on_load_failed),
            on(messages.Spawned, self._on_spawned),
            on(messages.WorkerExited, self._on_worker_exited),
            on(messages.CodeChanged, lambda msg, _handle: events.code_changed(msg.paths)),
        )

    def __iter__(self) -> Iterator[PreloaderHandle]:
        return iter(list(self._handles.values()))

    @property
    def failures(self) -> int:
        """How many loads in a row have failed, or led to a preloader that ended before it had forked a worker."""
        return self._backoff.failures

    # -- orders -------------------------------------------------------------------------------------------------------

    def ask(self, generation: int, serial: int = 0) -> None:
        """Request a preloader from the watchdog; with a serial, it becomes that worker."""
        self.asked.add((generation, serial))
        self._send_to_watchdog(messages.StartPreloader(self._group, generation, serial))

    def ask_again(self, generation: int, start: Callable[[int], None]) -> None:
        """Call `start(generation)` after a pause that grows with each failure in a row."""
        now = self._now()
        self._backoff.failed(now)
        self._later(self._backoff.until - now, start, generation)

    def fork(self, worker: WorkerHandle) -> None:
        """Order the preloader of the worker's generation to fork the worker."""
        spawn = messages.Spawn(worker.serial, worker.index, worker.first, become=False, check=worker.check)
        self._handles[worker.generation, 0].outbox.send(spawn, worker.theirs)

    def become(self, worker: WorkerHandle) -> None:
        """Order the process that was started for this worker to become it."""
        handle = self._handles[worker.generation, worker.serial]
        worker.pid = handle.pid
        spawn = messages.Spawn(worker.serial, worker.index, worker.first, become=True, check=worker.check)
        handle.outbox.send(spawn, worker.theirs)

    def send_changed_files(self, paths: list[str]) -> None:
        """Send these paths to the preloaders that fork workers: a cached file would be in each of those workers."""
        for handle in self:
            if not (handle.failed or handle.dismissed or handle.serial):
                handle.outbox.send(messages.FilesChanged(paths))

    def dismiss(self, handles: Iterator[PreloaderHandle], *, at_once: bool = False) -> None:
        """Let these preloaders end. Until they have ended, they still report the ends of their workers.

        `at_once`: a preloader that still imports the application is ended by a signal.
        """
        for handle in list(handles):
            if not handle.dismissed:
                self._dismiss(handle, at_once=at_once)

    def _dismiss(self, handle: PreloaderHandle, *, at_once: bool) -> None:
        ends = handle.failed or (at_once and handle.importing)
        handle.dismissed = True
        self.unload(handle)
        if ends:
            signal_or_delegate(handle.pid, signal.SIGTERM)
        elif not handle.serial:
            handle.outbox.send(messages.Quit())

    def unload(self, handle: PreloaderHandle) -> None:
        """Report that this preloader forks no more. One that becomes a worker was to fork none."""
        if not handle.serial:
            self._events.unloaded(handle.generation)

    def check(self, now: float, start_timeout: float) -> None:
        """Kill the preloaders that have been importing the application for too long."""
        for handle in self:
            if handle.importing and now - handle.since > start_timeout:
                reason = f"the application was not imported within start_timeout ({start_timeout:g} s)"
                handle.reason = reason
                self._load_failed(handle, Failure(time.time(), reason))
                signal_or_delegate(handle.pid, signal.SIGKILL)

    def end_late(
        self, now: float, stop_timeout: float, workers: Collection[WorkerHandle], *, development: bool
    ) -> None:
        """Kill the preloaders that have no worker left and do not end, as in an exit function of the application."""
        allowed = max(stop_timeout, EXIT_FUNCTIONS_SECONDS)
        for handle in self:
            if not should_end(handle, workers, development=development):
                handle.ending = 0.0
            elif not handle.ending:
                handle.ending = now
            elif now - handle.ending > allowed and not handle.killed:
                handle.killed = True
                handle.reason = _why_late(handle, allowed)
                log.warning("killing the preloader %d of %s: %s", handle.pid, self._group, handle.reason)
                signal_or_delegate(handle.pid, signal.SIGKILL)

    def flush(self) -> None:
        """Send the messages that had to wait."""
        for handle in self:
            if handle.outbox:
                handle.outbox.flush()

    # -- answers of the watchdog, ends and messages -------------------------------------------------------------------

    def started(self, msg: messages.PreloaderStarted, fd: int) -> None:
        """The watchdog has started a preloader, or passes on one of the server before this one."""
        self.asked.discard((msg.generation, msg.serial))
        channel = Channel.from_fd(fd)
        channel.sock.setblocking(False)
        watcher = get_hub().loop.io(fd, READABLE)
        handle = PreloaderHandle(
            generation=msg.generation, serial=msg.serial, pid=msg.pid, outbox=Outbox(channel), watcher=watcher,
            since=self._now(),
        )
        self._handles[msg.generation, msg.serial] = handle
        watcher.start(self._receive, handle)
        attach = messages.Attach(os.getpid(), self._board.slots, self._board.cells, self._parking.kind)
        handle.outbox.send(attach, [*self._parking.fds_for_workers(), *self._routes])

    def not_started(self, msg: messages.PreloaderNotStarted) -> None:
        """The watchdog could not start the preloader."""
        self.asked.discard((msg.generation, msg.serial))

    def exited(self, pid: int, status: int) -> None:
        """The watchdog has reaped the process of this pid."""
        for handle in self:
            if handle.pid == pid:
                self._exited(handle, attributed_cause(status, handle.reason, self._kernel, self._now()))

    def _exited(self, handle: PreloaderHandle, cause: str) -> None:
        self._receive(handle)
        handle.watcher.stop()
        handle.outbox.channel.close()
        self._handles.pop((handle.generation, handle.serial), None)
        if handle.serial or handle.dismissed:
            return
        if handle.loaded:
            log.error("the preloader %d of %s ended: %s", handle.pid, self._group, cause)
            if handle.has_forked or self._now() - handle.loaded > PROVEN_SECONDS:
                self._backoff.succeeded()
        elif not handle.failed:
            self._load_failed(handle, Failure(time.time(), f"the preloader ended while importing it: {cause}"))
        self._events.ended(handle, cause)

    def _receive(self, handle: PreloaderHandle) -> None:
        for msg in self._messages_of(handle):
            # A dismissed preloader no longer decides what the pool does, but it is still the parent of its workers.
            if not handle.dismissed or isinstance(msg, messages.WorkerExited | messages.Spawned):
                self._handle_message(msg, handle)

    def _messages_of(self, handle: PreloaderHandle) -> Iterator[Message]:
        ended = False
        while not ended:
            try:
                for msg, fds in handle.outbox.channel.waiting():
                    channels.close_all(fds)
                    yield msg
                ended = True
            except ChannelClosed:
                # The watchdog reports the end of the process.
                handle.watcher.stop()
                ended = True
            except ProtocolError as error:
                # The application is in the same process and may have written into the channel.
                self._log_ignored(handle, error)

    def _handle_message(self, msg: Message, handle: PreloaderHandle) -> None:
        try:
            self._dispatcher.handle_message(msg, handle)
        except UnexpectedMessage as error:
            self._log_ignored(handle, error)

    def _log_ignored(self, handle: PreloaderHandle, error: ProtocolError) -> None:
        log.error("preloader %d of %s: a message is ignored: %s", handle.pid, self._group, error)

    def _on_loaded(self, msg: messages.Loaded, handle: PreloaderHandle) -> None:
        handle.loaded = self._now()
        self.settings_module, self.loaded_from = msg.settings_module, msg.loaded_from
        self.model, self.concurrency = msg.model, msg.concurrency
        if not handle.serial:
            self._events.loaded(handle.generation)
        if msg.broken:
            self._events.loaded_broken(handle.generation)

    def _on_load_failed(self, msg: messages.LoadFailed, handle: PreloaderHandle) -> None:
        self._load_failed(handle, Failure(time.time(), msg.message, msg.traceback, msg.exit_code))

    def _on_spawned(self, msg: messages.Spawned, handle: PreloaderHandle) -> None:
        if msg.pid > 0:
            handle.has_forked = True
            self._backoff.succeeded()
        # The order may have come from the server before this one, whose workers this one does not know.
        if msg.server == os.getpid():
            self._events.forked(msg.serial, msg.pid, msg.error)

    def _on_worker_exited(self, msg: messages.WorkerExited, _handle: object) -> None:
        if msg.server == os.getpid():
            self._events.worker_exited(msg.serial, msg.status)

    def _load_failed(self, handle: PreloaderHandle, failure: Failure) -> None:
        handle.failed = True
        self._events.load_failed(handle, failure)


def should_end(handle: PreloaderHandle, workers: Collection[WorkerHandle], *, development: bool) -> bool:
    """Whether the process has no reason to live on: it was dismissed, or has failed, and has no worker.

    In development a preloader that has failed lives on: it watches the files and reports the next change.
    """
    if not (handle.dismissed or (handle.failed and not development)):
        return False
    return not any(w.generation == handle.generation and handle.serial in (0, w.serial) for w in workers)


def _why_late(handle: PreloaderHandle, allowed: float) -> str:
    late = f"it has no worker and has not ended within {allowed:g} s (stop_timeout)"
    if not (handle.loaded or handle.failed):
        return f"{late}, it still imports the application"
    return (
        f"{late}; look for exit functions (atexit) that the application registers at import, and threads that it "
        "starts there, which do not end"
    )


