"""The manager of one application group: carries out what the pool decides, and tells it what has happened.

Joins what each knows: the numbers are the pool's, connections the front end's, processes those of `preloaders` and
`workers`.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import gevent

from appsrv import message
from appsrv.admission import Admission
from appsrv.app_group import AppGroup
from appsrv.backend import BackEnd
from appsrv.death import UNSEEN
from appsrv.deaths import Deaths
from appsrv.disconnects import Disconnects
from appsrv.errors import BootError, NotStarted
from appsrv.fleet import GroupLoad
from appsrv.handles import Failure, Outcome, PreloaderHandle, WorkerHandle, send_signal
from appsrv.lookout import LoadMonitor, View
from appsrv.memory import MemoryLimits, family_share_above, share_above
from appsrv.open_sockets import listening
from appsrv.out_of_memory import OutOfMemoryKills
from appsrv.outage import Outage
from appsrv.pool import (
    Action,
    Kill,
    Pool,
    RestartDone,
    RestartFailed,
    Retire,
    Spawn,
    WorkerState,
)
from appsrv.pool_settings import pool_limits
from appsrv.preloaders import PreloaderEvents, Preloaders
from appsrv.reload_brake import ReloadBrake
from appsrv.request_queue import RequestQueue
from appsrv.restarts import Restarts, conflict_hint
from appsrv.scoreboard import CellReading, Scoreboard
from appsrv.slumber import Slumber
from appsrv.succession import LET_GO_SECONDS, Succession
from appsrv.time_limits import TimeLimits, Trace
from appsrv.workers import NoRoom, WorkerEvents, Workers

log = logging.getLogger("appsrv.manager")

FIRST_BOOT_TRIES = 3
# What workers may take beyond stop_timeout before a restart that waits for their end kills them.
STOP_MARGIN = 2.0
# Workers in a row that ended before they had served: until then a request waits, from then on it is told.
CRASH_LOOP = 3


class Owner(Protocol):
    """Who hears how the first boot of a group has ended."""

    def booted(self, group: Manager) -> None:
        """The group's first worker is ready; or, where none is kept, the application is loaded."""

    def boot_failed(self, group: Manager, failure: Failure) -> None:
        """The first generation cannot boot."""

    def load_ended(self, group: Manager) -> None:
        """What `boot` has begun to load is loaded, or cannot be."""

    def looked_at(self, group: Manager, *, hungry: bool) -> None:
        """The group has been looked at; `hungry`: requests wait in it for a worker for which there is no room."""


class Manager:
    """One application group.

    `tell_watchdog` sends a message to the watchdog, `trace` gives a process's stacks, `now` is a monotonic clock,
    `routes` is the descriptor of the route table, if there is one.
    """

    def __init__(
        self, group: AppGroup, owner: Owner, *, development: bool, board: Scoreboard, backend: BackEnd,
        tell_watchdog: Callable[[message.Message], None], trace: Trace, now: Callable[[], float],
        routes: Sequence[int] = (),
    ) -> None:
        self.group = group
        self.name = name = group.name
        self.settings = settings = group.settings
        self.backend = backend
        self._owner = owner
        kernel = OutOfMemoryKills()
        self._now = now
        self.workers = Workers(
            name, board=board, backend=backend, now=now, development=development,
            trusted_proxies=settings.forwarded_allow_ips,
            events=WorkerEvents(
                ready=self.worker_ready, unhealthy=self.worker_unhealthy, not_started=self.worker_not_started,
                code_changed=self.worker_saw_change, files_changed=self.files_changed,
            ),
        )
        self.preloaders = Preloaders(
            name, board=board, parking=backend.parking, send_to_watchdog=tell_watchdog, kernel=kernel, now=now,
            routes=routes,
            events=PreloaderEvents(
                loaded=self.generation_loaded, loaded_broken=self.loaded_broken, load_failed=self.load_failed,
                unloaded=self.generation_unloaded, ended=self.preloader_lost, forked=self.worker_forked,
                worker_exited=self.worker_exited, code_changed=self.code_changed,
            ),
        )
        self.deaths = Deaths(name, send_to_watchdog=tell_watchdog, kernel=kernel, now=now)
        self.failure: Failure | None = None
        self.multiproc = ""
        """The directory of the application's own metrics, if there is one."""
        probe_path = settings.probe_path and settings.base_uri + settings.probe_path
        self._outage = Outage(name, backend, development=development, probe_path=probe_path)
        self._development = development
        self._direct = settings.spawn_method == "direct"
        self._tell_watchdog = tell_watchdog
        self._pool = Pool(pool_limits(settings))
        self.restarts = Restarts(self._start_generation)
        self._succession = Succession(self._processes_before, self._start_preloader, self._load_again)
        self._stopped_first = 0
        self._brake = ReloadBrake(name, self._reload)
        self._next_generation = 1
        self._booted = False
        self.loading = False
        """Whether the application is being loaded by a process that `boot` has asked for."""
        self._hosted = bool(routes)
        self._restarted_asleep = False
        keeps_none = not settings.min_instances and not self._direct and not development
        self._slumber = Slumber(settings.max_preloader_idle_time if keeps_none else 0.0)
        self._monitor = LoadMonitor(self.workers, backend.parking, report=self._observe, now=now)
        self._time_limits = TimeLimits(
            name, slow=settings.slow_request_time, most=settings.max_request_time, concurrency=settings.concurrency,
            workers=self.workers, backend=backend, condemn=self._condemn, trace=trace, now=now,
        )
        # The process of a start_command sends interim responses of its own, and its connections tell it of clients.
        self._disconnects = Disconnects(
            name, self.workers, backend, probes=settings.start_command is None, now=now
        )
        self._memory_limits = MemoryLimits(
            settings.memory_limit, settings.hard_memory_limit, self.workers, self._ready_serials, self._condemn,
            share_above if settings.start_command is None else family_share_above,
        )
        self.queue = RequestQueue(
            Admission(settings.max_request_queue_size), self._monitor, backend,
            max_seconds=settings.max_request_queue_time, ready=self._ready_serials, coming=self._coming, now=now,
        )

    # -- what the admin socket asks for -------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The generation that serves."""
        return self._pool.generation

    @property
    def state(self) -> str:
        """One word for the whole group."""
        if self.restarts.running or self._pool.successor is not None:
            return "restarting"
        if self.failure is not None and not any(self.ready_workers()):
            return "broken"
        if self._slumber.asleep:
            return "running"
        none_kept = not self.settings.min_instances or not self._pool.room()
        on_demand = self._booted and none_kept and not self.spawning
        return "running" if on_demand or any(self.ready_workers()) else "booting"

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
        return "busy" if handle.in_progress else "idle"

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken yet."""
        return self._monitor.waiting

    def look(self) -> int:
        """Requests that no worker has taken, as counted now."""
        return self._monitor.read().waiting

    @property
    def min_instances(self) -> int:
        """Workers that are kept even when idle."""
        return self._pool.limits.min_instances

    @property
    def spawning(self) -> int:
        """Workers that boot."""
        return sum(book.state is WorkerState.BOOTING for book in self._pool.workers.values())

    def restart(self, parallel: int | None = None, *, stop_first: bool = False) -> Outcome:
        """A new generation, rolled in without a gap; returns when it serves alone or has failed.

        `parallel`: how many workers are replaced at a time, if not as the settings say. `stop_first`: the processes of
        the generation before end first, and requests wait meanwhile.
        """
        wanted = self.settings.restart_parallel if parallel is None else parallel
        return self.restarts.ask(min(wanted, self.settings.max_pool_size), stop_first=stop_first)

    def detach(self, pid: int) -> int | None:
        """Let the worker of this pid leave, after its successor has come where one is needed; its serial."""
        serial = next((serial for serial, worker in self.workers.items() if worker.pid == pid > 0), None)
        if serial is not None:
            self._act(self._pool.detach(serial, self._now(), "it is detached by hand"))
        return serial

    def share_room(self, room: Callable[[], int]) -> None:
        """There are other groups: `room` tells how many workers more this one may have."""
        self._pool.room = room

    @property
    def alive(self) -> int:
        """Workers that boot or serve."""
        return self._pool.alive

    def group_load(self) -> GroupLoad:
        """What other groups may know of this one."""
        ready = [book for book in self._pool.workers.values() if book.state is WorkerState.READY]
        idle = {book.serial: book.idle_since() for book in ready if not book.load.sessions}
        busy = tuple(book.serial for book in ready if book.load.sessions)
        return GroupLoad(self._pool.alive, self.min_instances, self.waiting, idle, busy)

    def evict(self, serial: int, by: str) -> None:
        """Another group needs the place of this worker."""
        self._act(self._pool.evict(serial, self._now(), f"{by} needs its place"))

    def resize(self, change: int) -> None:
        """Keep so many workers more (or fewer) than now, until the server is started again."""
        before = self._pool.limits.min_instances
        actions = self._pool.resize(change, self._now())
        log.info("%s keeps at least %d workers (%d before)", self.name, self._pool.limits.min_instances, before)
        self._act(actions)

    # -- the life of the group ----------------------------------------------------------------------------------------

    def boot(self, generation: int, last_generation: int, *, have_preloader: bool) -> None:
        """Start the first generation, or go on with the one that another server has had."""
        self._booted = generation > 0
        self._pool.generation = max(1, generation)
        self._next_generation = max(self._pool.generation, last_generation) + 1
        if have_preloader and last_generation > generation:
            reason = f"generation {last_generation} could not take over before the server was started again"
            self.restarts.resisting = Failure(time.time(), reason)
        if not have_preloader and self._hosted and self._slumber.after:
            # One of many, perhaps: it is loaded when somebody asks for it.
            self._slumber.asleep = True
            self._has_booted()
        elif not have_preloader:
            self.loading = True
            self._start_preloader(self._pool.generation)

    def _load_ended(self) -> None:
        if self.loading:
            self.loading = False
            self._owner.load_ended(self)

    def _start_generation(self) -> None:
        self.failure = None
        self._restarted_asleep = self._slumber.asleep
        generation, self._next_generation = self._next_generation, self._next_generation + 1
        if self.restarts.stop_first:
            log.info("restarting %s: generation %d boots once the one before it has ended", self.name, generation)
            self._stopped_first = generation
            seconds = self.settings.stop_timeout + STOP_MARGIN
            self._replace(generation, "the restart stops it first", seconds, self._kill_before)
        else:
            log.info("restarting %s: generation %d boots", self.name, generation)
            self._start_preloader(generation)

    def _replace(
        self, generation: int, reason: str, seconds: float, kill: Callable[[int], None] | None = None
    ) -> None:
        """Let go of all there is; requests wait for this generation, which is loaded when the others have ended."""
        self.preloaders.dismiss(iter(self.preloaders), at_once=True)
        self._act(self._pool.replace(generation, self._now(), reason))
        self._tell_watchdog(message.Serving(self.name, generation))
        self._succession.start(generation, seconds, kill)

    def _processes_before(self, generation: int) -> bool:
        return any(True for _ in self._handles_before(generation))

    def _handles_before(self, generation: int) -> Iterator[WorkerHandle | PreloaderHandle]:
        handles = (*self.workers.values(), *self.preloaders)
        return (handle for handle in handles if handle.generation < generation)

    def _kill_before(self, generation: int) -> None:
        for handle in self._handles_before(generation):
            log.warning("killing process %d of %s: it does not end, and a restart waits", handle.pid, self.name)
            send_signal(handle.pid, signal.SIGKILL)

    def _start_preloader(self, generation: int) -> None:
        self._slumber.awake()
        if not self._direct:
            self.preloaders.ask(generation)
        elif generation == self._pool.generation:
            self.generation_loaded(generation)
        else:
            self._act(self._pool.roll(generation, self._now(), self.restarts.parallel))

    def code_changed(self, paths: list[str]) -> None:
        """Files of the application have changed (development)."""
        self._brake.changed(paths)

    def _reload(self, paths: list[str]) -> None:
        """Development: every request from now on is for the new code."""
        if self._pool.closed:
            return
        log.info("%s changed, reloading %s", ", ".join(sorted(paths)[:3]) or "a file", self.name)
        self.failure = self.restarts.resisting = None
        self._load_anew("the code has changed")

    def _load_again(self) -> None:
        """Development: what could not be loaded beside the code before it."""
        log.info("loading %s again: the code before it, which may have held what it needs, has ended", self.name)
        self._load_anew("it is loaded again")

    def _load_anew(self, reason: str) -> None:
        self._outage.end()
        generation, self._next_generation = self._next_generation, self._next_generation + 1
        self._replace(generation, reason, LET_GO_SECONDS)
        self.restarts.over(Outcome(False, generation, "the code changed meanwhile and is loaded anew", superseded=True))

    def _boot_failed(self, failure: Failure) -> None:
        self.failure = failure
        self._owner.boot_failed(self, failure)

    @property
    def booted(self) -> bool:
        """Whether it has ever served; or, where no worker is kept, could have."""
        return self._booted

    def go_on_broken(self) -> None:
        """Its first generation cannot boot, but others are served: its requests get 503 until a later try succeeds."""
        self._booted = True
        if self.failure is not None:
            self._outage.begin(self.failure)

    def announce_stop(self) -> None:
        """Probes are answered 503 from now on; everything else goes on."""
        self.backend.parking.board.announce_stop()

    def close(self, reason: str = "the server stops") -> None:
        """Spawn nothing more and let every worker finish."""
        self._succession.stop()
        self._brake.stop()
        self._act(self._pool.close(self._now(), reason))
        self.preloaders.dismiss(iter(self.preloaders))
        self.restarts.end(Outcome(False, self._pool.generation, reason))

    @property
    def has_ended(self) -> bool:
        """Whether, once closed, nothing of it is left: no worker and no preloader, nor one that is still to come."""
        return not (self.workers or self.preloaders.asked or any(True for _ in self.preloaders))

    def discard(self) -> None:
        """After its end: look no more, let go of the queue and the scoreboard."""
        self._monitor.stop()
        self._memory_limits.stop()
        self.backend.close()

    def kill_all(self, reason: str) -> None:
        """End every worker now."""
        for serial in self.workers:
            self.workers.kill(serial, reason)

    # -- preloaders ---------------------------------------------------------------------------------------------------

    def preloader_started(self, msg: message.PreloaderStarted, fd: int) -> None:
        """The watchdog has started a preloader, or has had one since before this server lived."""
        self.multiproc = msg.multiproc
        self.preloaders.started(msg, fd)
        worker = self.workers.get(msg.serial)
        if worker is not None:
            self.preloaders.become(worker)
            self.workers.close_worker_ends(worker)
            if worker.slot.retiring:
                # It had no pid when it was told to.
                send_signal(worker.pid, signal.SIGTERM)
        if self._pool.closed:
            self.preloaders.dismiss(iter(self.preloaders))

    def preloader_not_started(self, msg: message.PreloaderNotStarted) -> None:
        """The watchdog could not start the process it was asked for."""
        self.preloaders.not_started(msg)
        if not msg.reason:
            self.workers.forget(self.workers.get(msg.serial))
            self._act(self._pool.gone(msg.serial, self._now(), "the instance stops"))
            return
        reason = f"no process can be started: {msg.reason}"
        log.error("%s (generation %d): %s", self.name, msg.generation, reason)
        self._load_ended()
        if msg.generation == self._pool.generation:
            self._stopped_in_vain(Failure(time.time(), reason))
        if msg.serial:
            self.workers.forget(self.workers.get(msg.serial))
            self._act(self._pool.gone(msg.serial, self._now(), reason))
        elif self._pool.closed:
            return
        elif msg.generation != self._pool.generation:
            self._restart_over(Outcome(False, self._pool.generation, reason))
        elif self._booted or self._development:
            self._forget_unborn(msg.generation)
            self._replace_preloader(msg.generation)
        else:
            self._boot_failed(Failure(time.time(), reason, exit_code=BootError.exit_code))

    def generation_loaded(self, generation: int) -> None:
        """The preloader of this generation can fork workers."""
        if not self._direct:
            self._load_ended()
        if generation > self._pool.generation:
            self._act(self._pool.roll(generation, self._now(), self.restarts.parallel))
        else:
            self._act(self._pool.loaded(generation, self._now()))
            if not self._pool.alive:
                # None is kept, or there is no room: the first one comes with the first request, which waits for it.
                self.failure = None
                self._outage.end()
                self._has_booted()
                self._serves(generation)

    def generation_unloaded(self, generation: int) -> None:
        """No more workers can be forked of this generation."""
        self._pool.unloaded(generation)

    def load_failed(self, handle: PreloaderHandle, failure: Failure) -> None:
        """The application could not be imported."""
        if handle.generation != self._pool.generation:
            hint = conflict_hint(failure, self._held_before(handle.generation))
            failure = replace(failure, message=failure.message + hint)
        # A traceback has been printed on a developer's terminal, by the framework's own command.
        level = logging.INFO if self._development and failure.traceback else logging.ERROR
        log.log(level, "%s (generation %d) cannot be loaded: %s", self.name, handle.generation, failure.message)
        # A later try of the same code says the same again.
        known = self.failure is not None and self.failure.traceback == failure.traceback
        for line in () if known else failure.traceback.splitlines():
            log.log(level, "  %s", line)
        self.failure = failure
        self._brake.loaded()
        self._load_ended()
        if handle.serial:
            self._act(self._pool.gone(handle.serial, self._now(), failure.message))
            self.workers.forget(self.workers.get(handle.serial))
        if handle.generation != self._pool.generation:
            self._restart_over(Outcome(False, self._pool.generation, failure.message, failure.traceback))
        elif not self._booted and not self._development:
            self._boot_failed(failure)
        else:
            if self._development:
                # The process that failed waits for a change: trying the same code again would change nothing.
                self._pool.unloaded(handle.generation)
            self.preloaders.unload(handle)
            # One that was killed is asked for again: until that, too, fails, clients wait.
            explained = failure.traceback or handle.reason or self.preloaders.failures >= CRASH_LOOP - 1
            if explained and not any(self.ready_workers()):
                self._outage.begin(failure)
            if explained:
                self._stopped_in_vain(failure)
            self._succession.failed(handle.generation)

    def loaded_broken(self, generation: int) -> None:
        """What the workers of this generation serve is why the application cannot be loaded (development)."""
        self._succession.failed(generation)

    def _held_before(self, generation: int) -> list[str]:
        """The addresses on which the processes of the generations before this one listen."""
        return sorted({name for handle in self._handles_before(generation) for name in listening(handle.pid)})

    def preloader_lost(self, handle: PreloaderHandle, cause: str) -> None:
        """The preloader has ended, unasked."""
        self._act(self._pool.lost(handle.generation, self._now(), f"its preloader ended: {cause}"))
        self._forget_unborn(handle.generation)
        if handle.generation == self._pool.generation and handle.loaded:
            self._check_lost(handle, cause)
        # Why the first generation cannot be loaded has been told already, and ends the instance.
        if self._booted or handle.loaded:
            self._replace_preloader(handle.generation)

    def _forget_unborn(self, generation: int) -> None:
        """The workers that the preloader of this generation was to fork, and that no other process will."""
        for worker in [w for w in self.workers.values() if not w.pid and w.generation == generation]:
            self.workers.forget(worker)
            self._act(self._pool.unborn(worker.serial, self._now()))

    def _check_lost(self, handle: PreloaderHandle, cause: str) -> None:
        """A preloader that ends whenever it has loaded the application makes no worker: no request waits for that."""
        count = self.preloaders.failures + 1
        if count < CRASH_LOOP or any(self.ready_workers()):
            return
        said = f"{count} preloaders in a row ended before they had forked a worker; the last one: {cause}"
        self.failure = Failure(time.time(), said, exit_code=BootError.exit_code, pid=handle.pid)
        if self._booted or self._development:
            self._outage.begin(self.failure)
        else:
            self._boot_failed(self.failure)

    def _replace_preloader(self, generation: int) -> None:
        if generation == self._pool.generation and not self._pool.closed:
            self.preloaders.ask_again(generation, self._start_preloader_again)

    def _start_preloader_again(self, generation: int) -> None:
        # A restart may have come meanwhile.
        if generation == self._pool.generation and not self._pool.closed:
            self._start_preloader(generation)

    # -- what the pool decides ----------------------------------------------------------------------------------------

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Spawn):
                self._spawn(action)
            elif isinstance(action, Retire):
                self.workers.retire(action.serial, action.reason)
                self._disconnects.log_departed(action.serial)
            elif isinstance(action, Kill):
                self.workers.kill(action.serial, action.reason)
            elif isinstance(action, RestartDone):
                self._restart_done(action.generation)
            elif isinstance(action, RestartFailed):
                self._restart_failed(action)

    def _spawn(self, action: Spawn) -> None:
        try:
            handle = self.workers.make(action)
        except NoRoom as error:
            reason = str(error)
            gevent.spawn(lambda: self._act(self._pool.gone(action.serial, self._now(), reason)))
            return
        handle.check = self.settings.health_path is not None and self._has_to_prove_itself(action.generation)
        if self._direct:
            self.preloaders.ask(action.generation, action.serial)
        else:
            self.preloaders.fork(handle)
            self.workers.close_worker_ends(handle)

    def _has_to_prove_itself(self, generation: int) -> bool:
        """Whether something else could serve if a new worker is ill. Spawned directly, any may have other code."""
        return generation == self._pool.successor or (self._direct and any(self.ready_workers()))

    # -- restarts -----------------------------------------------------------------------------------------------------

    def _restart_done(self, generation: int) -> None:
        self.failure = None
        log.info("%s is at generation %d", self.name, generation)
        self._tell_watchdog(message.Serving(self.name, generation))
        self.preloaders.dismiss(p for p in self.preloaders if p.generation < generation)
        self.restarts.over(Outcome(True, generation))

    def _restart_failed(self, action: RestartFailed) -> None:
        log.error(
            "%s stays at generation %d: generation %d cannot boot (%s)",
            self.name, self._pool.generation, action.generation, action.reason,
        )
        failure = self.failure or Failure(time.time(), action.reason)
        self.failure = failure
        self.preloaders.dismiss(p for p in self.preloaders if p.generation == action.generation)
        self._restart_over(Outcome(False, self._pool.generation, failure.message, failure.traceback))

    def _restart_over(self, failed: Outcome) -> None:
        """What was asleep when the restart began sleeps again: the code before is loaded when somebody asks for it."""
        self._slumber.asleep = self._restarted_asleep
        self.restarts.over(failed)

    # -- workers ------------------------------------------------------------------------------------------------------

    def _serves(self, generation: int) -> None:
        """A restart that has stopped the code before is over."""
        if generation == self._stopped_first:
            self._stopped_first = 0
            log.info("%s is at generation %d", self.name, generation)
            self.restarts.over(Outcome(True, generation))

    def _stopped_in_vain(self, failure: Failure) -> None:
        """The code that a restart should bring cannot serve, and the code before has ended; it is tried again."""
        if self._stopped_first == self._pool.generation:
            self._stopped_first = 0
            outcome = Outcome(False, self._pool.generation, failure.message, failure.traceback, stopped=True)
            self.restarts.over(outcome)

    def worker_saw_change(self, handle: WorkerHandle, paths: list[str]) -> None:
        """Files of the application have changed (development)."""
        # One that retires speaks of what its successor has loaded already; one that boots, before it says Ready.
        if self._pool.stays(handle.serial):
            self.code_changed(paths)

    def files_changed(self, paths: list[str]) -> None:
        """Files have changed that need no new code (development): processes that cache their content drop it."""
        self.preloaders.send_changed_files(paths)
        self.workers.send_changed_files(paths)

    def worker_ready(self, handle: WorkerHandle) -> None:
        """The worker waits for its first request."""
        log.info("worker %d of %s is ready (generation %d)", handle.pid, self.name, handle.generation)
        self.backend.worker_joined(handle)
        self._brake.loaded()
        if handle.generation == self._pool.generation:
            self.failure = None
        self._outage.end()
        self._load_ended()
        self._act(self._pool.ready(handle.serial, self._now()))
        self._has_booted()
        self._serves(handle.generation)

    def _has_booted(self) -> None:
        if not self._booted:
            self._booted = True
            self._owner.booted(self)

    def worker_unhealthy(self, handle: WorkerHandle, reason: str) -> None:
        """The worker has not passed the health check, and ends."""
        handle.reason = reason
        self.failure = Failure(time.time(), reason)

    def worker_not_started(self, handle: WorkerHandle, reason: str, ended: bool) -> None:
        """The process behind the worker does not take connections, and the worker ends; `ended`: as it has."""
        if not ended:
            handle.reason = reason
        self.failure = Failure(time.time(), reason, exit_code=NotStarted.exit_code, pid=handle.pid)
        if not (self._booted or self._development):
            # As with an application that cannot be imported: another try would change nothing.
            self._boot_failed(self.failure)

    def worker_forked(self, serial: int, pid: int, error: str) -> None:
        """A worker has its process; `pid` is -1 when fork(2) failed."""
        handle = self.workers.get(serial)
        if handle is None:
            return
        handle.pid = pid
        if pid == -1:
            log.error("cannot fork a worker of %s: %s", self.name, error)
            self.workers.forget(handle)
            self._act(self._pool.gone(serial, self._now(), error))

    def process_exited(self, pid: int, status: int) -> None:
        """The watchdog has reaped a preloader, or a worker whose preloader is gone."""
        for worker in [w for w in self.workers.values() if w.pid == pid]:
            self.worker_exited(worker.serial, status)
        self.preloaders.exited(pid, status)
        self.workers.process_ended(pid)
        self._succession.ended()

    def worker_exited(self, serial: int, status: int) -> None:
        """A worker has ended; `status` is what waitpid(2) gave."""
        handle = self.workers.get(serial)
        if handle is None:
            return
        self.workers.receive(handle)
        self._load_ended()
        book = self._pool.workers.get(serial)
        state = book.state if book is not None else WorkerState.GONE
        retired = state is WorkerState.RETIRING and not handle.reason and status in (0, signal.SIGTERM)
        cause = self.deaths.cause(status, handle.reason)
        served = [cell for cell in handle.slot.read() if cell.cid]
        asked = status == 0 and not handle.upstream_ended
        if state is WorkerState.READY and asked and not served and not handle.reason:
            log.info("worker %d of %s was told to end by somebody else", handle.pid, self.name)
        elif not retired:
            self._report_death(handle, cause, [c for c in served if not self._time_limits.has_answered(serial, c.cid)])
        self._monitor.worker_ended(handle.slot.taken)
        self.workers.forget(handle)
        self._act(self._pool.gone(serial, self._now(), cause, served=bool(served)))
        self._check_first_boot(cause)
        if self._pool.backoff.failures >= CRASH_LOOP and not any(self.ready_workers()):
            self.failure = Failure(time.time(), f"workers end before they have served anything; the last one: {cause}")
            self._outage.begin(self.failure)
            self._stopped_in_vain(self.failure)
        self._succession.ended()

    def _report_death(self, handle: WorkerHandle, cause: str, served: list[CellReading]) -> None:
        # A framework's command that cannot start says so itself.
        level = logging.INFO if self._development and not self._booted else logging.ERROR
        death = self.deaths.report(handle, cause, served, level=level)
        cids = [(cell.cid, cell.response_begun, cell.request_line) for cell in served]
        self.backend.worker_gone(handle, cids, death.error_id)
        self.backend.recover_lost()

    def _check_first_boot(self, cause: str) -> None:
        if self._booted or self._development or self._pool.backoff.failures < FIRST_BOOT_TRIES:
            return
        reason = f"{FIRST_BOOT_TRIES} workers in a row ended before they were ready; the last one: {cause}"
        self._boot_failed(Failure(time.time(), reason, exit_code=BootError.exit_code))

    # -- looking ------------------------------------------------------------------------------------------------------

    def _observe(self, view: View) -> None:
        self.workers.flush()
        self.preloaders.flush()
        self.deaths.kernel.look(view.now)
        self._act(self._pool.observe(view.loads, view.waiting, view.now))
        self._owner.looked_at(self, hungry=self._pool.hungry)
        self._sleep_or_wake(view)
        for handle in self.workers.lost(view.now):
            handle.reason = UNSEEN
            self.worker_exited(handle.serial, 0)
        self.preloaders.check(view.now, self.settings.start_timeout)
        self.preloaders.end_late(
            view.now, self.settings.stop_timeout, self.workers.values(), development=self._development
        )
        self._time_limits.check(view.now)
        self._disconnects.check(view.now)
        self.queue.enforce_limits(view)

    def _sleep_or_wake(self, view: View) -> None:
        idle = not (self.workers or view.waiting or self.restarts.running or self._pool.closed)
        loaded = self._pool.generation in self._pool.loaded_generations
        if self._slumber.wakes(view.waiting):
            self._start_preloader(self._pool.generation)
        elif self._slumber.falls_asleep(view.now, quiet=idle and loaded):
            log.info("%s is let go of: nobody has asked for it in max_preloader_idle_time", self.name)
            self.preloaders.dismiss(iter(self.preloaders))

    def _condemn(self, serial: int, reason: str) -> None:
        self._act(self._pool.condemn(serial, self._now(), reason))

    def _ready_serials(self) -> list[int]:
        return [handle.serial for handle in self.ready_workers()]

    def _coming(self) -> int:
        return self._pool.coming() * self.settings.concurrency
