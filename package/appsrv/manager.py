"""The manager of one application group: carries out what the pool decides, and tells it what has happened.

Owns the group's preloaders and workers as handles (a handle is not the process: it is what the server knows of it). The
numbers are the pool's; connections are the front end's.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator

import gevent
from gevent import get_hub
from gevent.event import AsyncResult

from appsrv import channel as channels
from appsrv import message
from appsrv.admission import Admission
from appsrv.channel import Channel, ChannelClosed, DescriptorsLost, Outbox
from appsrv.config import Settings
from appsrv.death import cause_of_death
from appsrv.errors import BootError
from appsrv.frontend import FrontEnd
from appsrv.handles import Failure, Outcome, PreloaderHandle, WorkerHandle, send_signal
from appsrv.http_response import Response, error_response
from appsrv.lookout import Lookout, View
from appsrv.pool import (
    Action,
    Backoff,
    Kill,
    Pool,
    PoolLimits,
    RestartDone,
    RestartFailed,
    Retire,
    Spawn,
    WorkerState,
)
from appsrv.scoreboard import CellReading, Scoreboard

log = logging.getLogger("appsrv.manager")

RETRY_AFTER = 5
FIRST_BOOT_TRIES = 3


class Manager:
    """One application group. `tell_watchdog` sends a message to the watchdog."""

    def __init__(
        self, name: str, settings: Settings, *, development: bool, board: Scoreboard, frontend: FrontEnd,
        tell_watchdog: Callable[[message.Message], None],
    ) -> None:
        self.name = name
        self.settings = settings
        self.frontend = frontend
        self.workers: dict[int, WorkerHandle] = {}
        self.preloaders: dict[tuple[int, int], PreloaderHandle] = {}
        self.failure: Failure | None = None
        self.last_death: Failure | None = None
        self.admission = Admission(settings.max_request_queue_size)
        self._development = development
        self._direct = settings.spawn_method == "direct"
        self._board = board
        self._tell_watchdog = tell_watchdog
        self._pool = Pool(pool_limits(settings))
        self._free_slots = list(range(board.slots))
        self._restarting: AsyncResult[Outcome] | None = None
        self._next_generation = 1
        self._booted = False
        self._load_backoff = Backoff()
        self._lookout = Lookout(self.workers, frontend.parking, self._observe)

    # -- what the admin socket asks for -------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The generation that serves."""
        return self._pool.generation

    @property
    def state(self) -> str:
        """One word for the whole group."""
        if self._restarting is not None or self._pool.successor is not None:
            return "restarting"
        if self.failure is not None and not any(self.ready_workers()):
            return "broken"
        return "running" if any(self.ready_workers()) else "booting"

    def ready_workers(self) -> Iterator[WorkerHandle]:
        """The workers that serve."""
        for serial, book in self._pool.workers.items():
            if book.state is WorkerState.READY and serial in self.workers:
                yield self.workers[serial]

    def worker_state(self, handle: WorkerHandle) -> str:
        """booting, idle, busy or retiring."""
        book = self._pool.workers.get(handle.serial)
        if book is None or book.state is not WorkerState.READY:
            return book.state.value if book is not None else WorkerState.GONE.value
        return "busy" if any(cell.cid for cell in handle.readings) else "idle"

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken yet."""
        return self._lookout.waiting

    def look(self) -> int:
        """Requests that no worker has taken, as counted now."""
        return self._lookout.look().waiting

    @property
    def spawning(self) -> int:
        """Workers that boot."""
        return sum(book.state is WorkerState.BOOTING for book in self._pool.workers.values())

    def restart(self) -> Outcome:
        """A new generation, rolled in without a gap; returns when it serves alone or has failed."""
        while self._restarting is not None:
            # It may have read the code before the last change, for which this one is asked.
            self._restarting.wait()
        ours: AsyncResult[Outcome] = AsyncResult()
        self._restarting = ours
        self._start_generation()
        outcome = ours.get()
        assert outcome is not None
        return outcome

    # -- the life of the group ----------------------------------------------------------------------------------------

    def boot(self, generation: int, last_generation: int, *, have_preloader: bool) -> None:
        """Start the first generation, or go on with the one that another server has had."""
        self._booted = generation > 0
        self._pool.generation = max(1, generation)
        self._next_generation = max(self._pool.generation, last_generation) + 1
        if not have_preloader:
            self._start_preloader(self._pool.generation)

    def _start_generation(self) -> None:
        self.failure = None
        generation, self._next_generation = self._next_generation, self._next_generation + 1
        log.info("restarting %s: generation %d boots", self.name, generation)
        self._start_preloader(generation)

    def _start_preloader(self, generation: int) -> None:
        if not self._direct:
            self._tell_watchdog(message.StartPreloader(self.name, generation, 0))
        elif generation == self._pool.generation:
            self._act(self._pool.loaded(generation, time.monotonic()))
        else:
            self._act(self._pool.roll(generation, time.monotonic()))

    def code_changed(self, paths: list[str]) -> None:
        """Development: every request from now on is for the new code."""
        log.info("%s changed, reloading %s", ", ".join(sorted(paths)[:3]) or "a file", self.name)
        self.failure = None
        self.frontend.fallback = None
        generation, self._next_generation = self._next_generation, self._next_generation + 1
        for handle in list(self.preloaders.values()):
            self._dismiss(handle)
        self._act(self._pool.replace(generation, time.monotonic()))
        self._restart_over(Outcome(False, generation, "the code changed meanwhile and is loaded anew"))
        self._start_preloader(generation)

    def close(self) -> None:
        """Spawn nothing more and let every worker finish."""
        self._act(self._pool.close(time.monotonic()))
        for handle in list(self.preloaders.values()):
            self._dismiss(handle)

    def kill_all(self, reason: str) -> None:
        """End every worker now."""
        for handle in self.workers.values():
            log.warning("killing worker %d of %s: %s", handle.pid, self.name, reason)
            handle.reason = reason
            send_signal(handle.pid, signal.SIGKILL)

    # -- preloaders ---------------------------------------------------------------------------------------------------

    def preloader_started(self, msg: message.PreloaderStarted, fd: int) -> None:
        """The watchdog has started a preloader, or has had one since before this server lived."""
        channel = Channel.from_fd(fd)
        channel.sock.setblocking(False)
        watcher = get_hub().loop.io(fd, 1)
        handle = PreloaderHandle(
            msg.generation, msg.serial, msg.pid, Outbox(channel), watcher, time.monotonic()
        )
        self.preloaders[msg.generation, msg.serial] = handle
        watcher.start(self._from_preloader, handle)
        parking = self.frontend.parking
        attach = message.Attach(os.getpid(), self._board.slots, self._board.cells, parking.kind)
        handle.outbox.send(attach, parking.fds_for_workers())
        worker = self.workers.get(msg.serial)
        if worker is not None:
            self._become(handle, worker)

    def preloader_not_started(self, msg: message.PreloaderNotStarted) -> None:
        """The watchdog could not start the process it was asked for."""
        reason = f"no process can be started: {msg.reason}"
        log.error("%s (generation %d): %s", self.name, msg.generation, reason)
        if msg.serial:
            self._forget_worker(self.workers.get(msg.serial))
            self._act(self._pool.gone(msg.serial, time.monotonic(), reason))
        elif msg.generation != self._pool.generation:
            self._restart_over(Outcome(False, self._pool.generation, reason))
        elif self._booted or self._development:
            self._replace_preloader(msg.generation)
        else:
            self._tell_watchdog(message.BootFailed(reason, "", BootError.exit_code))

    def _become(self, handle: PreloaderHandle, worker: WorkerHandle) -> None:
        worker.pid = handle.pid
        handle.outbox.send(message.Spawn(worker.serial, worker.index, worker.first, become=True), [worker.theirs])
        self._given(worker)

    def _from_preloader(self, handle: PreloaderHandle) -> None:
        for msg in self._messages_of(handle):
            if handle.dismissed and not isinstance(msg, message.WorkerExited | message.Spawned):
                continue
            if isinstance(msg, message.Loaded):
                self._on_loaded(handle)
            elif isinstance(msg, message.LoadFailed):
                self._on_load_failed(handle, Failure(time.time(), msg.message, msg.traceback, msg.exit_code))
            elif isinstance(msg, message.Spawned):
                self._on_spawned(msg)
            elif isinstance(msg, message.WorkerExited):
                if msg.server == os.getpid():
                    self._worker_exited(msg.serial, msg.status)
            elif isinstance(msg, message.CodeChanged):
                self.code_changed(msg.paths)

    def _messages_of(self, handle: PreloaderHandle) -> Iterator[message.Message]:
        try:
            for msg, fds in handle.outbox.channel.waiting():
                channels.close_all(fds)
                yield msg
        except ChannelClosed:
            # Its end comes from the watchdog; until then there is nothing to hear.
            handle.watcher.stop()

    def _on_loaded(self, handle: PreloaderHandle) -> None:
        handle.loaded = True
        self._load_backoff.succeeded()
        if self._direct:
            return
        now = time.monotonic()
        if handle.generation > self._pool.generation:
            self._act(self._pool.roll(handle.generation, now))
        else:
            self._act(self._pool.loaded(handle.generation, now))

    def _on_load_failed(self, handle: PreloaderHandle, failure: Failure) -> None:
        handle.failed = True
        log.error("%s (generation %d) cannot be loaded: %s", self.name, handle.generation, failure.message)
        for line in failure.traceback.splitlines():
            # The framework's own command has printed it on a developer's terminal.
            log.log(logging.INFO if self._development else logging.ERROR, "  %s", line)
        self.failure = failure
        if handle.serial:
            self._act(self._pool.gone(handle.serial, time.monotonic(), failure.message))
            self._forget_worker(self.workers.get(handle.serial))
        if handle.generation != self._pool.generation:
            self._restart_over(Outcome(False, self._pool.generation, failure.message, failure.traceback))
        elif not self._booted and not self._development:
            self._tell_watchdog(message.BootFailed(failure.message, failure.traceback, failure.exit_code))
        else:
            if self._development:
                # The process that failed waits for a change: trying the same code again would change nothing.
                self._pool.unloaded(handle.generation)
            self._unloaded(handle)
            if not any(self.ready_workers()):
                self._serve_failure()

    def _unloaded(self, handle: PreloaderHandle) -> None:
        # One that was to become a worker took nothing with it: its generation needs no preloader.
        if not handle.serial:
            self._pool.unloaded(handle.generation)

    def _serve_failure(self) -> None:
        """Answer every request with the reason why the application cannot."""
        self.frontend.fallback = self._failure_page
        self.frontend.refuse_waiting(1 << 16, self._failure_page())

    def _failure_page(self) -> Response:
        failure = self.failure
        shown = failure is not None and self._development
        return error_response(
            500 if shown else 503,
            detail=failure.message if failure and shown else None,
            traceback=failure.traceback or None if failure and shown else None,
            retry_after=None if shown else RETRY_AFTER,
        )

    def _dismiss(self, handle: PreloaderHandle) -> None:
        """The preloader is not needed any more; until it has ended it may still report workers that did."""
        if handle.dismissed:
            return
        handle.dismissed = True
        self._unloaded(handle)
        if handle.failed:
            send_signal(handle.pid, signal.SIGTERM)
        elif not handle.serial:
            handle.outbox.send(message.Quit())

    # -- what the pool decides ----------------------------------------------------------------------------------------

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Spawn):
                self._spawn(action)
            elif isinstance(action, Retire):
                self._retire(action)
            elif isinstance(action, Kill):
                self._kill(action)
            elif isinstance(action, RestartDone):
                self._restart_done(action.generation)
            elif isinstance(action, RestartFailed):
                self._restart_failed(action)

    def _spawn(self, action: Spawn) -> None:
        if not self._free_slots:
            gevent.spawn(lambda: self._act(self._pool.gone(action.serial, time.monotonic(), "no free slot")))
            return
        try:
            ours, theirs = channels.pair()
        except OSError as error:
            log.error("cannot make a worker of %s: %s", self.name, error.strerror)
            reason = str(error)
            gevent.spawn(lambda: self._act(self._pool.gone(action.serial, time.monotonic(), reason)))
            return
        index = self._free_slots.pop(0)
        slot = self._board.slot(index)
        slot.clear()
        ours.setblocking(False)
        watcher = get_hub().loop.io(ours.fileno(), 1)
        handle = WorkerHandle(
            action.serial, action.generation, index, slot, Outbox(Channel(ours)), watcher,
            time.monotonic(), time.time(), first=action.first, theirs=theirs.detach(),
        )
        self.workers[action.serial] = handle
        watcher.start(self._from_worker, handle)
        if self._direct:
            self._tell_watchdog(message.StartPreloader(self.name, action.generation, action.serial))
            return
        preloader = self.preloaders[action.generation, 0]
        spawn = message.Spawn(action.serial, index, action.first, become=False)
        preloader.outbox.send(spawn, [handle.theirs])
        self._given(handle)

    def _given(self, handle: WorkerHandle) -> None:
        os.close(handle.theirs)
        handle.theirs = -1

    def _retire(self, action: Retire) -> None:
        handle = self.workers.get(action.serial)
        if handle is None:
            return
        log.info("worker %d of %s retires: %s", handle.pid, self.name, action.reason)
        handle.slot.retire()
        send_signal(handle.pid, signal.SIGTERM)

    def _kill(self, action: Kill) -> None:
        handle = self.workers.get(action.serial)
        if handle is None:
            return
        handle.reason = action.reason
        log.warning("killing worker %d of %s: %s", handle.pid, self.name, action.reason)
        send_signal(handle.pid, signal.SIGKILL)

    # -- restarts -----------------------------------------------------------------------------------------------------

    def _restart_done(self, generation: int) -> None:
        self.failure = None
        log.info("%s is at generation %d", self.name, generation)
        for handle in [p for p in self.preloaders.values() if p.generation < generation]:
            self._dismiss(handle)
        self._restart_over(Outcome(True, generation))

    def _restart_failed(self, action: RestartFailed) -> None:
        log.error(
            "%s stays at generation %d: generation %d cannot boot (%s)",
            self.name, self._pool.generation, action.generation, action.reason,
        )
        failure = self.failure or Failure(time.time(), action.reason)
        self.failure = failure
        for handle in [p for p in self.preloaders.values() if p.generation == action.generation]:
            self._dismiss(handle)
        self._restart_over(Outcome(False, self._pool.generation, failure.message, failure.traceback))

    def _restart_over(self, outcome: Outcome) -> None:
        waiting, self._restarting = self._restarting, None
        if waiting is not None:
            waiting.set(outcome)

    # -- workers ------------------------------------------------------------------------------------------------------

    def _from_worker(self, handle: WorkerHandle) -> None:
        try:
            for msg, fds in handle.outbox.channel.waiting():
                if isinstance(msg, message.Ready):
                    self._on_ready(handle, msg.pid)
                elif isinstance(msg, message.CodeChanged):
                    self._worker_saw_change(handle, msg.paths)
                else:
                    self.frontend.heard(handle.serial, msg, fds)
        except ChannelClosed:
            handle.watcher.stop()
        except DescriptorsLost as error:
            self.frontend.give_up(message.unpack(error.data))
            self._from_worker(handle)

    def _worker_saw_change(self, handle: WorkerHandle, paths: list[str]) -> None:
        # One that retires speaks of what its successor has loaded already.
        book = self._pool.workers.get(handle.serial)
        if book is not None and book.state is WorkerState.READY:
            self.code_changed(paths)

    def _on_ready(self, handle: WorkerHandle, pid: int) -> None:
        handle.pid = pid
        log.info("worker %d of %s is ready (generation %d)", pid, self.name, handle.generation)
        self.frontend.worker_joined(handle.serial, handle)
        if handle.generation == self._pool.generation:
            self.failure = None
        self.frontend.fallback = None
        self._act(self._pool.ready(handle.serial, time.monotonic()))
        if not self._booted:
            self._booted = True
            self._tell_watchdog(message.Booted())

    def _on_spawned(self, msg: message.Spawned) -> None:
        handle = self.workers.get(msg.serial)
        if msg.server != os.getpid() or handle is None:
            return
        handle.pid = msg.pid
        if msg.pid == -1:
            log.error("cannot fork a worker of %s: %s", self.name, msg.error)
            self._forget_worker(handle)
            self._act(self._pool.gone(msg.serial, time.monotonic(), msg.error))

    def process_exited(self, pid: int, status: int) -> None:
        """The watchdog has reaped a preloader, or a worker whose preloader is gone."""
        for worker in [w for w in self.workers.values() if w.pid == pid]:
            self._worker_exited(worker.serial, status)
        for preloader in [p for p in self.preloaders.values() if p.pid == pid]:
            self._preloader_exited(preloader, status)

    def _preloader_exited(self, handle: PreloaderHandle, status: int) -> None:
        self._from_preloader(handle)
        handle.watcher.stop()
        handle.outbox.channel.close()
        self.preloaders.pop((handle.generation, handle.serial), None)
        if handle.serial or handle.dismissed:
            return
        cause = cause_of_death(status)
        if handle.loaded:
            log.error("the preloader %d of %s ended: %s", handle.pid, self.name, cause)
        elif not handle.failed:
            self._on_load_failed(handle, Failure(time.time(), f"the preloader ended while importing it: {cause}"))
        self._act(self._pool.lost(handle.generation, time.monotonic(), f"its preloader ended: {cause}"))
        self._replace_preloader(handle.generation)

    def _replace_preloader(self, generation: int) -> None:
        if generation != self._pool.generation or self._pool.closed or not self._booted:
            return
        for serial in [w.serial for w in self._pool.workers.values() if not self.workers[w.serial].pid]:
            self._worker_exited(serial, 0)
        self._load_backoff.failed(time.monotonic())
        gevent.spawn_later(self._load_backoff.until - time.monotonic(), self._start_preloader_again, generation)

    def _start_preloader_again(self, generation: int) -> None:
        # A restart may have come meanwhile.
        if generation == self._pool.generation and not self._pool.closed:
            self._start_preloader(generation)

    def _worker_exited(self, serial: int, status: int) -> None:
        handle = self.workers.get(serial)
        if handle is None:
            return
        self._from_worker(handle)
        book = self._pool.workers.get(serial)
        state = book.state if book is not None else WorkerState.GONE
        retired = state is WorkerState.RETIRING and not handle.reason and status in (0, signal.SIGTERM)
        cause = handle.reason or cause_of_death(status)
        served = [cell for cell in handle.slot.read() if cell.cid]
        if state is WorkerState.READY and status == 0 and not served:
            log.info("worker %d of %s was told to end by somebody else", handle.pid, self.name)
        elif not retired:
            self._report_death(handle, cause, served)
        self._lookout.taken_by_dead += handle.slot.taken
        self._forget_worker(handle)
        self._act(self._pool.gone(serial, time.monotonic(), cause, served=bool(served)))
        self._check_first_boot(cause)
        if state is WorkerState.BOOTING and not any(self.ready_workers()):
            self.failure = Failure(time.time(), f"a worker ended before it was ready: {cause}")
            self._serve_failure()

    def _report_death(self, handle: WorkerHandle, cause: str, served: list[CellReading]) -> None:
        error_id = secrets.token_hex(4)
        # A framework's command that cannot start says so itself.
        level = logging.INFO if self._development and not self._booted else logging.ERROR
        log.log(level, "worker %d of %s ended: %s", handle.pid, self.name, cause)
        for cell in served:
            log.error(
                "error id %s: worker %d was serving %s for %.3f s when it ended: %s",
                error_id, handle.pid, cell.request_line, time.monotonic() - cell.started, cause,
            )
        self.last_death = Failure(time.time(), cause, pid=handle.pid)
        self.frontend.worker_gone(handle.serial, [(cell.cid, cell.response_begun) for cell in served], error_id)
        self.frontend.recover_lost(self.busy)

    def _check_first_boot(self, cause: str) -> None:
        if self._booted or self._development or self._pool.backoff.failures < FIRST_BOOT_TRIES:
            return
        reason = f"{FIRST_BOOT_TRIES} workers in a row ended before they were ready; the last one: {cause}"
        self._tell_watchdog(message.BootFailed(reason, "", 3))

    def _forget_worker(self, handle: WorkerHandle | None) -> None:
        if handle is None or self.workers.pop(handle.serial, None) is None:
            return
        self.frontend.worker_gone(handle.serial, [], "")
        handle.watcher.stop()
        handle.outbox.discard()
        handle.outbox.channel.close()
        if handle.theirs >= 0:
            self._given(handle)
        self._free_slots.append(handle.index)

    # -- looking ------------------------------------------------------------------------------------------------------

    def busy(self) -> set[int]:
        """The connections that workers are serving."""
        return {cell.cid for handle in self.workers.values() for cell in handle.slot.read() if cell.cid}

    def admit(self) -> Response | None:
        """A request is about to be handed over: None, or the answer to refuse it with because the queue is full."""
        self._lookout.nudge()
        if not self._lookout.may_exceed(self.admission.most - 1):
            return None
        view = self._lookout.look()
        if not self.admission.full(view, self._ready_serials(), more=1):
            return None
        self._say_refused(1)
        return _busy_page()

    def _observe(self, view: View) -> None:
        self._flush()
        self._act(self._pool.observe(view.loads, view.waiting, view.now))
        self._check_preloaders(view.now)
        if self.admission.full(view, self._ready_serials()):
            # Requests on parked connections come without asking.
            self._say_refused(self.frontend.refuse_waiting(self.admission.excess(view), _busy_page()))

    def _ready_serials(self) -> list[int]:
        return [handle.serial for handle in self.ready_workers()]

    def _say_refused(self, count: int) -> None:
        line = self.admission.count(count, time.monotonic())
        if line is not None:
            log.warning(line)

    def _check_preloaders(self, now: float) -> None:
        limit = self.settings.start_timeout
        for handle in list(self.preloaders.values()):
            if not (handle.loaded or handle.failed or handle.dismissed) and now - handle.since > limit:
                failure = Failure(time.time(), f"the application was not imported within start_timeout ({limit:g} s)")
                self._on_load_failed(handle, failure)
                send_signal(handle.pid, signal.SIGKILL)

    def _flush(self) -> None:
        for worker in self.workers.values():
            if worker.outbox:
                worker.outbox.flush()
        for preloader in self.preloaders.values():
            if preloader.outbox:
                preloader.outbox.flush()


def _busy_page() -> Response:
    return error_response(503, retry_after=RETRY_AFTER)


def pool_limits(settings: Settings) -> PoolLimits:
    """The pool's numbers among the settings."""
    return PoolLimits(
        max_pool_size=settings.max_pool_size,
        min_instances=settings.min_instances,
        pool_idle_time=settings.pool_idle_time,
        start_timeout=settings.start_timeout,
        stop_timeout=settings.stop_timeout,
        max_requests=settings.max_requests,
        max_requests_jitter=settings.max_requests // 10,
    )
