"""The preloaders of one application group: asked for, heard, dismissed, and asked for again when they have died.

Knows each by its generation and, where workers are spawned directly, by the worker it becomes. What follows for the
pool from what a preloader says is the owner's business; how an application is imported is the preloader's own.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

import gevent
from gevent import get_hub

from appsrv import channel as channels
from appsrv import message
from appsrv.channel import Channel, ChannelClosed, Outbox
from appsrv.death import who_killed
from appsrv.handles import Failure, PreloaderHandle, WorkerHandle, send_signal
from appsrv.out_of_memory import OutOfMemoryKills
from appsrv.parking import READABLE, Parking
from appsrv.pool import Backoff
from appsrv.scoreboard import Scoreboard

log = logging.getLogger("appsrv.preloaders")

PROVEN = 1.0
"""Seconds after which a preloader that has loaded the application is of use, whether or not it has forked a worker."""

EXIT_FUNCTIONS = 2.0
"""Seconds that a preloader has at least for the exit functions of the application, where stop_timeout is shorter."""


class Owner(Protocol):
    """Who hears what the preloaders say."""

    def generation_loaded(self, generation: int) -> None:
        """The preloader of this generation can fork workers."""

    def generation_unloaded(self, generation: int) -> None:
        """No more workers can be forked of this generation."""

    def load_failed(self, handle: PreloaderHandle, failure: Failure) -> None:
        """The application could not be imported."""

    def preloader_lost(self, handle: PreloaderHandle, cause: str) -> None:
        """The preloader has ended, unasked."""

    def worker_forked(self, serial: int, pid: int, error: str) -> None:
        """A worker has its process; `pid` is -1 when fork(2) failed."""

    def worker_exited(self, serial: int, status: int) -> None:
        """A worker has ended; `status` is what waitpid(2) gave."""

    def loaded_broken(self, generation: int) -> None:
        """What the workers of this generation serve is why the application cannot be loaded (development)."""

    def code_changed(self, paths: list[str]) -> None:
        """Files of the application have changed (development)."""


class Preloaders:
    """All preloaders of a group, those that are on their way out among them.

    `tell_watchdog` sends it a message, `routes` is the descriptor of the route table, where there is one.
    """

    def __init__(
        self, group: str, owner: Owner, board: Scoreboard, parking: Parking,
        tell_watchdog: Callable[[message.Message], None], kernel: OutOfMemoryKills, routes: Sequence[int] = (),
    ) -> None:
        self._routes = routes
        self._group = group
        self._kernel = kernel
        self._owner = owner
        self._board = board
        self._parking = parking
        self._tell_watchdog = tell_watchdog
        self._handles: dict[tuple[int, int], PreloaderHandle] = {}
        self.asked: set[tuple[int, int]] = set()
        """(generation, serial) of those that the watchdog has been asked for and has said nothing about yet."""
        self.settings_module = ""
        """The settings module of Django in the preloader that has loaded the application last."""
        self.loaded_from: Sequence[int] = ()
        """The identity of the directory that it has loaded it from, see `root_watch`."""
        self.model = ""
        self.concurrency = 0
        """The concurrency model in use there and how many requests a worker serves at a time; empty before a load."""
        self._backoff = Backoff()

    def __iter__(self) -> Iterator[PreloaderHandle]:
        return iter(list(self._handles.values()))

    @property
    def failures(self) -> int:
        """How often in a row the application could not be imported, or its preloader has ended before it was of use."""
        return self._backoff.failures

    # -- orders -------------------------------------------------------------------------------------------------------

    def ask(self, generation: int, serial: int = 0) -> None:
        """Have the watchdog start a preloader; with a serial, it becomes that worker."""
        self.asked.add((generation, serial))
        self._tell_watchdog(message.StartPreloader(self._group, generation, serial))

    def ask_again(self, generation: int, start: Callable[[int], None]) -> None:
        """Have `start(generation)` called after a pause that grows with each failure in a row."""
        now = time.monotonic()
        self._backoff.failed(now)
        gevent.spawn_later(self._backoff.until - now, start, generation)

    def fork(self, worker: WorkerHandle) -> None:
        """Let the preloader of the worker's generation fork it."""
        spawn = message.Spawn(worker.serial, worker.index, worker.first, become=False, check=worker.check)
        self._handles[worker.generation, 0].outbox.send(spawn, worker.theirs)

    def become(self, worker: WorkerHandle) -> None:
        """Let the preloader that was started for this worker be it."""
        handle = self._handles[worker.generation, worker.serial]
        worker.pid = handle.pid
        spawn = message.Spawn(worker.serial, worker.index, worker.first, become=True, check=worker.check)
        handle.outbox.send(spawn, worker.theirs)

    def tell_of_files(self, paths: list[str]) -> None:
        """Let those that fork workers know of files that have changed: what they remember, their workers will."""
        for handle in self:
            if not (handle.failed or handle.dismissed or handle.serial):
                handle.outbox.send(message.FilesChanged(paths))

    def dismiss(self, handles: Iterator[PreloaderHandle], *, at_once: bool = False) -> None:
        """They are not needed any more; until they have ended they may still report workers that did.

        `at_once`: one that still imports the application does not go on with that.
        """
        for handle in list(handles):
            if not handle.dismissed:
                self._dismiss(handle, at_once=at_once)

    def _dismiss(self, handle: PreloaderHandle, *, at_once: bool) -> None:
        ends = handle.failed or (at_once and handle.importing)
        handle.dismissed = True
        self.unload(handle)
        if ends:
            send_signal(handle.pid, signal.SIGTERM)
        elif not handle.serial:
            handle.outbox.send(message.Quit())

    def unload(self, handle: PreloaderHandle) -> None:
        """Nothing can be forked from it. One that was to become a worker took nothing with it."""
        if not handle.serial:
            self._owner.generation_unloaded(handle.generation)

    def check(self, now: float, start_timeout: float) -> None:
        """End those that have been importing the application for too long."""
        for handle in self:
            if handle.importing and now - handle.since > start_timeout:
                reason = f"the application was not imported within start_timeout ({start_timeout:g} s)"
                handle.reason = reason
                self._failed(handle, Failure(time.time(), reason))
                send_signal(handle.pid, signal.SIGKILL)

    def end_late(
        self, now: float, stop_timeout: float, workers: Collection[WorkerHandle], *, development: bool
    ) -> None:
        """Kill those that have no worker left and do not end, such as in an exit function of the application."""
        allowed = max(stop_timeout, EXIT_FUNCTIONS)
        for handle in self:
            if not should_end(handle, workers, development=development):
                handle.ending = 0.0
            elif not handle.ending:
                handle.ending = now
            elif now - handle.ending > allowed and not handle.killed:
                handle.killed = True
                handle.reason = _why_late(handle, allowed)
                log.warning("killing the preloader %d of %s: %s", handle.pid, self._group, handle.reason)
                send_signal(handle.pid, signal.SIGKILL)

    def flush(self) -> None:
        """Send what had to wait."""
        for handle in self:
            if handle.outbox:
                handle.outbox.flush()

    # -- news ---------------------------------------------------------------------------------------------------------

    def started(self, msg: message.PreloaderStarted, fd: int) -> None:
        """The watchdog has started a preloader, or has had one since before this server lived."""
        self.asked.discard((msg.generation, msg.serial))
        channel = Channel.from_fd(fd)
        channel.sock.setblocking(False)
        watcher = get_hub().loop.io(fd, READABLE)
        handle = PreloaderHandle(msg.generation, msg.serial, msg.pid, Outbox(channel), watcher, time.monotonic())
        self._handles[msg.generation, msg.serial] = handle
        watcher.start(self._hear, handle)
        attach = message.Attach(os.getpid(), self._board.slots, self._board.cells, self._parking.kind)
        handle.outbox.send(attach, [*self._parking.fds_for_workers(), *self._routes])

    def not_started(self, msg: message.PreloaderNotStarted) -> None:
        """The watchdog could not start it."""
        self.asked.discard((msg.generation, msg.serial))

    def exited(self, pid: int, status: int) -> None:
        """The watchdog has reaped the process of this pid."""
        for handle in self:
            if handle.pid == pid:
                self._exited(handle, who_killed(status, handle.reason, self._kernel, time.monotonic()))

    def _exited(self, handle: PreloaderHandle, cause: str) -> None:
        self._hear(handle)
        handle.watcher.stop()
        handle.outbox.channel.close()
        self._handles.pop((handle.generation, handle.serial), None)
        if handle.serial or handle.dismissed:
            return
        if handle.loaded:
            log.error("the preloader %d of %s ended: %s", handle.pid, self._group, cause)
            if handle.has_forked or time.monotonic() - handle.loaded > PROVEN:
                self._backoff.succeeded()
        elif not handle.failed:
            self._failed(handle, Failure(time.time(), f"the preloader ended while importing it: {cause}"))
        self._owner.preloader_lost(handle, cause)

    def _hear(self, handle: PreloaderHandle) -> None:
        for msg in _messages_of(handle):
            if not handle.dismissed or isinstance(msg, message.WorkerExited | message.Spawned):
                self._heed(handle, msg)

    def _heed(self, handle: PreloaderHandle, msg: message.Message) -> None:
        if isinstance(msg, message.Loaded):
            handle.loaded = time.monotonic()
            self.settings_module, self.loaded_from = msg.settings_module, msg.loaded_from
            self.model, self.concurrency = msg.model, msg.concurrency
            if not handle.serial:
                self._owner.generation_loaded(handle.generation)
            if msg.broken:
                self._owner.loaded_broken(handle.generation)
        elif isinstance(msg, message.LoadFailed):
            self._failed(handle, Failure(time.time(), msg.message, msg.traceback, msg.exit_code))
        elif isinstance(msg, message.Spawned):
            if msg.pid > 0:
                handle.has_forked = True
                self._backoff.succeeded()
            if msg.server == os.getpid():
                self._owner.worker_forked(msg.serial, msg.pid, msg.error)
        elif isinstance(msg, message.WorkerExited):
            if msg.server == os.getpid():
                self._owner.worker_exited(msg.serial, msg.status)
        elif isinstance(msg, message.CodeChanged):
            self._owner.code_changed(msg.paths)

    def _failed(self, handle: PreloaderHandle, failure: Failure) -> None:
        handle.failed = True
        self._owner.load_failed(handle, failure)


def should_end(handle: PreloaderHandle, workers: Collection[WorkerHandle], *, development: bool) -> bool:
    """Whether nothing keeps the process: no order, no worker. In development one that has failed waits for a change."""
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


def _messages_of(handle: PreloaderHandle) -> Iterator[message.Message]:
    try:
        for msg, fds in handle.outbox.channel.waiting():
            channels.close_all(fds)
            yield msg
    except ChannelClosed:
        # Its end comes from the watchdog; until then there is nothing to hear.
        handle.watcher.stop()
