"""The life of one application group: how a generation is loaded, takes over, fails, is unloaded and loaded again.

A generation is one load of the application's code. Owns the preloaders, the restarts and the unloading of an idle
application, and starts each generation. Does not know how many workers there should be (`pool`), nor how the pool's
decisions are carried out (`pool_driver`).
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import replace

from appsrv.errors import BootError, NotStarted
from appsrv.ipc import messages
from appsrv.server.pool.availability import CRASH_LOOP_ENDS, Availability
from appsrv.server.pool.generations import Generations
from appsrv.server.pool.group_context import GroupContext
from appsrv.server.pool.handles import Failure, PreloaderHandle, RestartOutcome, WorkerHandle, signal_or_delegate
from appsrv.server.pool.idle_unload import IdleUnload
from appsrv.server.pool.load_monitor import View
from appsrv.server.pool.pool import Pool, RestartDone, RestartFailed
from appsrv.server.pool.pool_driver import PoolDriver, PoolEvents
from appsrv.server.pool.preloaders import PreloaderEvents, Preloaders
from appsrv.server.pool.reloading import Reloading
from appsrv.server.pool.restarts import Restarts, conflict_hint
from appsrv.server.pool.succession import LET_GO_SECONDS, Succession
from appsrv.server.pool.workers import WorkerEvents
from appsrv.system.oom_kills import OutOfMemoryKills

log = logging.getLogger("appsrv.manager")

# How long beyond stop_timeout the old workers may take before a restart that waits for their end kills them.
STOP_MARGIN_SECONDS = 2.0


class Lifecycle:
    """`preloaders`, `driver`, `availability`, `restarts`, `reloading` and `idle_unload` are used by the manager."""

    def __init__(self, context: GroupContext, pool: Pool) -> None:
        group, settings = context.group, context.group.settings
        self._name = group.name
        self._settings = settings
        self._development = context.development
        self._send_to_watchdog = context.send_to_watchdog
        self._events = context.events
        self._backend = context.backend
        self._now = context.now
        self._pool = pool
        self._direct = settings.spawn_method == "direct"
        self._one_of_many = bool(context.routes)
        self.multiproc = ""
        """The directory of the application's own metrics, if it has one."""
        self._unloaded_before_restart = False
        self.availability = Availability(context)
        self.restarts = Restarts(self._start_restart)
        self.reloading = Reloading(context, pool, self.availability, self.restarts, load=self._load_anew)
        kernel = OutOfMemoryKills()
        self.preloaders = Preloaders(
            group.name, board=context.board, parking=context.backend.parking, events=self._preloader_events(),
            send_to_watchdog=context.send_to_watchdog, kernel=kernel, now=context.now, later=context.later,
            routes=context.routes,
        )
        self.driver = PoolDriver(
            context, pool, kernel, events=self._pool_events(), worker_events=self._worker_events()
        )
        self._workers = self.driver.workers
        self._generations = Generations(group.name, self._workers, self.preloaders)
        self._act = self.driver.act
        self._succession = Succession(
            self._generations.has_older, self._start_preloader, self.reloading.load_again, later=context.later
        )
        keeps_none = not settings.min_instances and not self._direct and not context.development
        self.idle_unload = IdleUnload(settings.max_preloader_idle_time if keeps_none else 0.0)

    def _pool_events(self) -> PoolEvents:
        return PoolEvents(
            spawn=self._spawn, restart_done=self._restart_done, restart_failed=self._restart_failed,
            worker_ended=self._worker_ended, observed=self._observed, has_booted=lambda: self.availability.booted,
        )

    def _worker_events(self) -> WorkerEvents:
        return WorkerEvents(
            ready=self._worker_ready, unhealthy=self._worker_unhealthy, not_started=self._worker_not_started,
            code_changed=self.reloading.worker_saw_change, files_changed=self._files_changed,
            process_ended=self._events.process_ended,
        )

    def _preloader_events(self) -> PreloaderEvents:
        return PreloaderEvents(
            loaded=self._generation_loaded, loaded_broken=self._loaded_broken, load_failed=self._load_failed,
            unloaded=self._pool.unloaded, ended=self._preloader_ended,
            forked=lambda serial, pid, error: self.driver.forked(serial, pid, error),
            worker_exited=lambda serial, status: self.driver.worker_exited(serial, status),
            code_changed=self.reloading.code_changed,
        )

    def _no_worker_ready(self) -> bool:
        return not any(self.driver.ready_workers())

    # -- the beginning and the end ------------------------------------------------------------------------------------

    def boot(self, generation: int, last_generation: int, *, have_preloader: bool) -> None:
        """Start the first generation, or continue with the one that the server before this one has started."""
        if generation > 0:
            self.availability.continue_booted()
        self._pool.start_at(max(1, generation))
        self._generations.continue_after(max(self._pool.generation, last_generation))
        if have_preloader and last_generation > generation:
            reason = f"generation {last_generation} could not take over before the server was started again"
            self.restarts.set_resisting(Failure(time.time(), reason))
        if not have_preloader and self._one_of_many and self.idle_unload.after:
            # An instance may have many applications: each is loaded for its first request.
            self.idle_unload.set_unloaded(True)
            self.availability.set_booted()
        elif not have_preloader:
            self.availability.begin_load()
            self._start_preloader(self._pool.generation)

    def close(self, reason: str) -> None:
        """Start nothing more, and let all workers and preloaders end."""
        self._succession.stop()
        self.reloading.stop()
        self._act(self._pool.close(self._now(), reason))
        self.preloaders.dismiss(iter(self.preloaders))
        self.restarts.end(RestartOutcome(False, self._pool.generation, reason))

    # -- the start of a generation ------------------------------------------------------------------------------------

    def _start_restart(self) -> None:
        self.availability.clear_failure()
        self._unloaded_before_restart = self.idle_unload.unloaded
        generation = self._generations.take()
        if self.restarts.stop_first:
            log.info("restarting %s: generation %d boots once the one before it has ended", self._name, generation)
            self.restarts.stop_first_for(generation)
            seconds = self._settings.stop_timeout + STOP_MARGIN_SECONDS
            self._replace(generation, "the restart stops it first", seconds, self._generations.kill_older)
        else:
            log.info("restarting %s: generation %d boots", self._name, generation)
            self._start_preloader(generation)

    def _load_anew(self, reason: str) -> int:
        generation = self._generations.take()
        self._replace(generation, reason, LET_GO_SECONDS)
        return generation

    def _replace(
        self, generation: int, reason: str, seconds: float, kill: Callable[[int], None] | None = None
    ) -> None:
        """End all processes; when they have ended, load this generation, for which the requests wait meanwhile.

        `seconds`, `kill`: see `Succession.start`.
        """
        self.preloaders.dismiss(iter(self.preloaders), at_once=True)
        # From here on the pool's generation is one that is not loaded: it spawns nothing, and requests wait.
        self._act(self._pool.replace(generation, self._now(), reason))
        self._send_to_watchdog(messages.Serving(self._name, generation))
        self._succession.start(generation, seconds, kill)

    def _start_preloader(self, generation: int) -> None:
        self.idle_unload.loaded()
        if not self._direct:
            self.preloaders.ask(generation)
        elif generation == self._pool.generation:
            self._generation_loaded(generation)
        else:
            self._act(self._pool.roll(generation, self._now(), self.restarts.parallel))

    def _spawn(self, handle: WorkerHandle) -> None:
        """Make the process of a worker that the pool has decided on."""
        handle.check = self._settings.health_path is not None and self._needs_health_check(handle.generation)
        if self._direct:
            self.preloaders.ask(handle.generation, handle.serial)
        else:
            self.preloaders.fork(handle)
            self._workers.close_worker_ends(handle)

    def _needs_health_check(self, generation: int) -> bool:
        """Whether other workers can serve if a new one is ill. Spawned directly, any new worker may have other code."""
        return generation == self._pool.successor or (self._direct and not self._no_worker_ready())

    # -- messages and ends of preloaders ------------------------------------------------------------------------------

    def preloader_started(self, msg: messages.PreloaderStarted, fd: int) -> None:
        """The watchdog has started a preloader, or passes on one of the server before this one."""
        self.multiproc = msg.multiproc
        self.preloaders.started(msg, fd)
        worker = self._workers.get(msg.serial)
        if worker is not None:
            self.preloaders.become(worker)
            self._workers.close_worker_ends(worker)
            if worker.slot.retiring:
                # The pool retired it before its process was started, when there was no pid for the signal.
                signal_or_delegate(worker.pid, signal.SIGTERM)
        if self._pool.closed:
            # The group was closed while the watchdog started the process.
            self.preloaders.dismiss(iter(self.preloaders))

    def preloader_not_started(self, msg: messages.PreloaderNotStarted) -> None:
        """The watchdog could not start a process; without a reason, since the instance stops."""
        self.preloaders.not_started(msg)
        if not msg.reason:
            self.driver.not_made(msg.serial, "the instance stops")
            return
        reason = f"no process can be started: {msg.reason}"
        log.error("%s (generation %d): %s", self._name, msg.generation, reason)
        self.availability.end_load()
        if msg.generation == self._pool.generation:
            self.restarts.cannot_serve(msg.generation, Failure(time.time(), reason))
        if msg.serial:
            self.driver.not_made(msg.serial, reason)
        elif not self._pool.closed:
            self._no_preloader(msg.generation, reason)

    def _no_preloader(self, generation: int, reason: str) -> None:
        if generation != self._pool.generation:
            self._end_restart(RestartOutcome(False, self._pool.generation, reason))
        elif self.availability.first_boot:
            self.availability.fail_boot(Failure(time.time(), reason, exit_code=BootError.exit_code))
        else:
            self.driver.forget_not_forked(generation)
            self._replace_preloader(generation)

    def _generation_loaded(self, generation: int) -> None:
        if not self._direct:
            self.availability.end_load()
        if generation > self._pool.generation:
            # A restart: the old generation serves until the new one is ready. If a reload had taken the pool to a later
            # generation meanwhile, this preloader would be dismissed and its message not handled.
            self._act(self._pool.roll(generation, self._now(), self.restarts.parallel))
            return
        self._act(self._pool.loaded(generation, self._now()))
        if not self._pool.alive:
            # No worker is kept, or there is no room: the first request makes the pool spawn one, and waits for it.
            self.availability.clear_failure()
            self.availability.end_outage()
            self.availability.set_booted()
            self._serves(generation)

    def _load_failed(self, handle: PreloaderHandle, failure: Failure) -> None:
        if handle.generation != self._pool.generation:
            # Loaded by a restart, while the old code serves and may hold a port or a lock.
            hint = conflict_hint(failure, self._generations.addresses_of_older(handle.generation))
            failure = replace(failure, message=failure.message + hint)
        self.availability.set_load_failure(handle.generation, failure)
        self.reloading.loaded()
        self.availability.end_load()
        if handle.serial:
            self.driver.not_made(handle.serial, failure.message)
        if handle.generation != self._pool.generation:
            self._end_restart(RestartOutcome(False, self._pool.generation, failure.message, failure.traceback))
        elif self.availability.first_boot:
            self.availability.fail_boot(failure)
        else:
            self._serving_load_failed(handle, failure)

    def _serving_load_failed(self, handle: PreloaderHandle, failure: Failure) -> None:
        """The generation whose turn it is to serve cannot be loaded."""
        if self._development:
            # The process that failed watches the files: another load of the same code would fail again.
            self._pool.unloaded(handle.generation)
        self.preloaders.unload(handle)
        # A preloader that was killed says nothing about the code. It is started again, and requests wait for it, until
        # CRASH_LOOP_ENDS of them in a row have been killed.
        explained = failure.traceback or handle.reason or self.preloaders.failures >= CRASH_LOOP_ENDS - 1
        if explained and self._no_worker_ready():
            self.availability.begin_outage(failure)
        if explained:
            self.restarts.cannot_serve(self._pool.generation, failure)
        self._succession.failed(handle.generation)

    def _loaded_broken(self, generation: int) -> None:
        self._succession.failed(generation)

    def _preloader_ended(self, handle: PreloaderHandle, cause: str) -> None:
        # If a restart was rolling this generation in, the pool gives it up. If it is the generation that serves, its
        # workers serve on, and a new preloader forks the next ones. Workers that this one was ordered to fork and has
        # not forked are forgotten: otherwise the pool would wait for them until start_timeout.
        self._act(self._pool.lost(handle.generation, self._now(), f"its preloader ended: {cause}"))
        self.driver.forget_not_forked(handle.generation)
        if handle.generation == self._pool.generation and handle.loaded and self._no_worker_ready():
            self.availability.check_preloader_ends(handle, cause, self.preloaders.failures + 1)
        # A first generation that cannot be loaded was reported by `_load_failed`, and is not tried again.
        if self.availability.booted or handle.loaded:
            self._replace_preloader(handle.generation)

    def _replace_preloader(self, generation: int) -> None:
        if generation == self._pool.generation and not self._pool.closed:
            self.preloaders.ask_again(generation, self._start_preloader_again)

    def _start_preloader_again(self, generation: int) -> None:
        # During the pause, a restart may have made another generation the one that serves, or the group was closed.
        if generation == self._pool.generation and not self._pool.closed:
            self._start_preloader(generation)

    # -- ends of restarts ---------------------------------------------------------------------------------------------

    def _restart_done(self, action: RestartDone) -> None:
        self.availability.clear_failure()
        log.info("%s is at generation %d", self._name, action.generation)
        self._send_to_watchdog(messages.Serving(self._name, action.generation))
        self.preloaders.dismiss(p for p in self.preloaders if p.generation < action.generation)
        self.restarts.over(RestartOutcome(True, action.generation))

    def _restart_failed(self, action: RestartFailed) -> None:
        log.error(
            "%s stays at generation %d: generation %d cannot boot (%s)",
            self._name, self._pool.generation, action.generation, action.reason,
        )
        failure = self.availability.failure or Failure(time.time(), action.reason)
        self.availability.set_failure(failure)
        self.preloaders.dismiss(p for p in self.preloaders if p.generation == action.generation)
        self._end_restart(RestartOutcome(False, self._pool.generation, failure.message, failure.traceback))

    def _end_restart(self, failed: RestartOutcome) -> None:
        # If the application was unloaded when the restart began, it is unloaded again; the next request loads the old
        # code.
        self.idle_unload.set_unloaded(self._unloaded_before_restart)
        self.restarts.over(failed)

    def _serves(self, generation: int) -> None:
        if self.restarts.serves(generation):
            log.info("%s is at generation %d", self._name, generation)

    # -- messages and ends of workers ---------------------------------------------------------------------------------

    def _worker_ready(self, handle: WorkerHandle) -> None:
        log.info("worker %d of %s is ready (generation %d)", handle.pid, self._name, handle.generation)
        self._backend.worker_joined(handle)
        self.reloading.loaded()
        if handle.generation == self._pool.generation:
            self.availability.clear_failure()
        self.availability.end_outage()
        self.availability.end_load()
        # An old worker that becomes ready during a restart counts as well: it serves until its replacement is ready.
        self._act(self._pool.ready(handle.serial, self._now()))
        self.availability.set_booted()
        self._serves(handle.generation)

    def _worker_unhealthy(self, handle: WorkerHandle, reason: str) -> None:
        handle.reason = reason
        self.availability.set_failure(Failure(time.time(), reason))

    def _worker_not_started(self, handle: WorkerHandle, reason: str, ended: bool) -> None:
        if not ended:
            handle.reason = reason
        failure = Failure(time.time(), reason, exit_code=NotStarted.exit_code, pid=handle.pid)
        if self.availability.first_boot:
            # As with an application that cannot be imported: another try would change nothing.
            self.availability.fail_boot(failure)
        else:
            self.availability.set_failure(failure)

    def _files_changed(self, paths: list[str]) -> None:
        """Files have changed that need no new code (development): processes that cache their content drop it."""
        self.preloaders.send_changed_files(paths)
        self._workers.send_changed_files(paths)

    def process_exited(self, pid: int, status: int) -> None:
        """The watchdog has reaped a preloader, or a worker whose preloader has ended before it."""
        for worker in [w for w in self._workers.values() if w.pid == pid]:
            self.driver.worker_exited(worker.serial, status)
        self.preloaders.exited(pid, status)
        self._workers.process_ended(pid)
        self._succession.ended()

    def _worker_ended(self, cause: str) -> None:
        self.availability.end_load()
        failures = self._pool.backoff.failures
        self.availability.check_first_workers(cause, failures)
        if self._no_worker_ready():
            failure = self.availability.check_worker_ends(cause, failures)
            if failure is not None:
                self.restarts.cannot_serve(self._pool.generation, failure)
        self._succession.ended()

    # -- readings of the load -----------------------------------------------------------------------------------------

    def _observed(self, view: View) -> None:
        self.preloaders.flush()
        self._events.observed(self._pool.wants_room)
        self._unload_or_load(view)
        self.preloaders.check(view.now, self._settings.start_timeout)
        self.preloaders.end_late(
            view.now, self._settings.stop_timeout, self._workers.values(), development=self._development
        )

    def _unload_or_load(self, view: View) -> None:
        idle = not (self._workers or view.waiting or self.restarts.running or self._pool.closed)
        loaded = self._pool.generation in self._pool.loaded_generations
        if self.idle_unload.should_load(view.waiting):
            self._start_preloader(self._pool.generation)
        elif self.idle_unload.should_unload(view.now, idle=idle and loaded):
            log.info("%s is unloaded: no requests within max_preloader_idle_time", self._name)
            self.preloaders.dismiss(iter(self.preloaders))
