"""The pool: how many workers there should be, of which generation, and which of them have to end.

Pure: each method gets an event and the time, updates the records and returns the actions, which `pool_driver` carries
out. No clock is read and no process is touched here; a worker is a serial number. The state consists of the workers and
the generations whose preloader can fork.

A worker is *outgoing* when it belongs to an older generation than the goal, has served its `max_requests` or is
condemned. It is retired only when its replacement is ready, so that neither restarts nor recycling leave a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class WorkerState(Enum):
    """booting -> ready -> retiring -> gone. A ready worker is shown as idle or busy, according to the scoreboard."""

    BOOTING = "booting"
    READY = "ready"
    RETIRING = "retiring"
    GONE = "gone"


LEGAL_MOVES: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.BOOTING: frozenset({WorkerState.READY, WorkerState.RETIRING, WorkerState.GONE}),
    WorkerState.READY: frozenset({WorkerState.RETIRING, WorkerState.GONE}),
    WorkerState.RETIRING: frozenset({WorkerState.GONE}),
    WorkerState.GONE: frozenset(),
}


@dataclass(frozen=True)
class PoolLimits:
    """The operator's limits; times in seconds. 0 means never for `pool_idle_time`, `max_requests` and
    `busy_threads_timeout`.

    `parallel` workers of a new generation boot at a time; at most `spawn_at_once` workers boot at any time.
    """

    max_pool_size: int = 6
    min_instances: int = 1
    pool_idle_time: float = 300.0
    start_timeout: float = 90.0
    stop_timeout: float = 30.0
    busy_threads_timeout: float = 0.0
    max_requests: int = 0
    max_requests_jitter: int = 0
    parallel: int = 1
    spawn_at_once: int = 8


@dataclass(frozen=True)
class Load:
    """The load of one worker, from the scoreboard: requests in progress, requests done, when it last took one.

    `threads`: how many threads of the application a worker waits for that has served its last request.
    """

    sessions: int
    processed: int
    last_used: float
    threads: int = 0


IDLE = Load(0, 0, 0.0)


# -- actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpawnWorker:
    """Fork a worker from the preloader of this generation. `first`: no other worker of the generation is the first.

    In development the first worker watches the files; when it has ended, the next worker that is spawned is the first.
    """

    serial: int
    generation: int
    first: bool


@dataclass(frozen=True)
class Retire:
    """Let the worker finish its requests, and end."""

    serial: int
    reason: str


@dataclass(frozen=True)
class Kill:
    """End the worker now."""

    serial: int
    reason: str


@dataclass(frozen=True)
class RestartDone:
    """Only workers of this generation serve from now on."""

    generation: int


@dataclass(frozen=True)
class RestartFailed:
    """The generation could not boot a worker; the old one serves on."""

    generation: int
    reason: str


Action = SpawnWorker | Retire | Kill | RestartDone | RestartFailed


@dataclass
class PoolWorker:
    """The pool's record of one worker; times are those of the events."""

    serial: int
    generation: int
    since: float
    quota: int
    first: bool = False
    state: WorkerState = WorkerState.BOOTING
    killed: bool = False
    condemned: str = ""
    was_idle: bool = False
    load: Load = IDLE

    def move(self, state: WorkerState, now: float) -> None:
        """Change the state; AssertionError for a change that is not in `LEGAL_MOVES`."""
        assert state in LEGAL_MOVES[self.state], f"worker {self.serial}: {self.state.value} -> {state.value}"
        self.state = state
        self.since = now

    @property
    def worn(self) -> str:
        """Why the worker has to be replaced; empty if it has not."""
        if self.condemned:
            return self.condemned
        return "it served its max_requests" if self.quota and self.load.processed >= self.quota else ""

    def idle_since(self) -> float:
        """Since when the worker has served no request."""
        return max(self.since, self.load.last_used)


@dataclass
class Backoff:
    """The pause after failures in a row: 0.25 s after the first one, doubled with each, at most 30 s."""

    failures: int = 0
    until: float = 0.0
    last: float = 0.0
    first: float = 0.25
    longest: float = 30.0

    def failed(self, now: float) -> None:
        """One more failure in a row."""
        self.last = now
        self.until = now + min(self.longest, self.first * 2**self.failures)
        self.failures = min(self.failures + 1, 32)

    def succeeded(self) -> None:
        """The next failure is the first in a row again."""
        self.failures = 0
        self.until = 0.0


# A worker that ends so soon after it was ready, without a request done, has failed to start.
EARLY_SECONDS = 1.0
UNLIMITED = 1 << 30


@dataclass
class Pool:
    """The records of one application group."""

    limits: PoolLimits
    generation: int = 1
    successor: int | None = None
    workers: dict[int, PoolWorker] = field(default_factory=dict)
    loaded_generations: set[int] = field(default_factory=set)
    backoff: Backoff = field(default_factory=Backoff)
    closed: bool = False
    room: Callable[[], int] = lambda: UNLIMITED
    """How many workers the group may have beyond the present ones. A replacement needs no room."""
    wants_room: bool = False
    """Whether requests wait for a worker that would be spawned if there were room for it."""
    _last_serial: int = 0

    # -- what happened ------------------------------------------------------------------------------------------------

    def start_at(self, generation: int) -> None:
        """Begin with this generation."""
        self.generation = generation

    def loaded(self, generation: int, now: float) -> list[Action]:
        """The preloader of this generation can fork."""
        self.loaded_generations.add(generation)
        return self.balance(now)

    def unloaded(self, generation: int) -> None:
        """The preloader of this generation forks no more; its workers serve on."""
        self.loaded_generations.discard(generation)

    def lost(self, generation: int, now: float, reason: str) -> list[Action]:
        """The preloader of this generation has ended: a roll to it cannot be finished."""
        self.unloaded(generation)
        if generation != self.successor:
            return []
        return self._abandon_roll(now, reason) + self.balance(now)

    def roll(self, generation: int, now: float, parallel: int | None = None) -> list[Action]:
        """Replace the workers by workers of this loaded generation, `parallel` at a time, without a gap."""
        if parallel is not None:
            self.limits = replace(self.limits, parallel=parallel)
        self.successor = generation
        self.backoff.succeeded()
        return self.loaded(generation, now)

    def replace(self, generation: int, now: float, reason: str = "the code has changed") -> list[Action]:
        """Retire all workers of older generations at once; requests wait until a worker of this one is ready."""
        self.generation, self.successor = generation, None
        self.backoff.succeeded()
        old = [w for w in self._alive() if w.generation != generation]
        return [self._retire(worker, now, reason) for worker in old] + self.balance(now)

    def ready(self, serial: int, now: float) -> list[Action]:
        """A worker waits for its first request."""
        worker = self.workers.get(serial)
        if worker is None or worker.state is not WorkerState.BOOTING:
            return []
        worker.move(WorkerState.READY, now)
        # A worker of an outdated generation replaces no other, unless the pool is full.
        too_many = len(list(self._of(WorkerState.READY))) > self.limits.max_pool_size
        actions = self._succeed_one(now) if worker in self.incoming() or too_many else []
        return actions + self._finish_roll() + self.balance(now)

    def gone(self, serial: int, now: float, reason: str = "ended", *, served: bool = False) -> list[Action]:
        """A worker has ended or could not be forked, for the given reason. `served`: it was serving a request."""
        worker = self.workers.pop(serial, None)
        if worker is None:
            return []
        failed_early = worker.state is WorkerState.BOOTING or (self._died_early(worker, now) and not served)
        worker.move(WorkerState.GONE, now)
        actions: list[Action] = []
        if failed_early:
            self.backoff.failed(now)
            if worker.generation == self.successor:
                actions = self._abandon_roll(now, reason)
        return actions + self._finish_roll() + self.balance(now)

    def never_forked(self, serial: int, now: float) -> list[Action]:
        """A worker was not forked since its preloader has ended: this is no failure of the worker."""
        worker = self.workers.pop(serial, None)
        if worker is None:
            return []
        worker.move(WorkerState.GONE, now)
        return self._finish_roll() + self.balance(now)

    def observe(self, loads: Mapping[int, Load], waiting: int, now: float) -> list[Action]:
        """A reading of the scoreboard and the queue: grow, shrink, recycle, enforce the time limits."""
        for serial, load in loads.items():
            worker = self.workers.get(serial)
            if worker is None:
                continue
            if worker.load.threads and not load.threads:
                # The threads that it waited for have ended: from now on it has stop_timeout like any other worker.
                worker.since = now
            worker.load = load
        if any(self._proven(worker, now) for worker in self._of(WorkerState.READY)):
            self.backoff.succeeded()
        return self._overdue(now) + self.balance(now, waiting) + self._shrink(now, waiting)

    def condemn(self, serial: int, now: float, reason: str) -> list[Action]:
        """Replace a worker for this reason: it serves on until its replacement is ready."""
        worker = self.workers.get(serial)
        if worker is None or worker.state is not WorkerState.READY or worker.condemned:
            return []
        worker.condemned = reason
        return self.balance(now)

    def detach(self, serial: int, now: float, reason: str) -> list[Action]:
        """Retire one worker; if `min_instances` requires a replacement, only when that one is ready."""
        worker = self.workers.get(serial)
        if worker is None or worker.state is WorkerState.RETIRING:
            return []
        others = [w for w in self.incoming() if w.state is WorkerState.READY and w is not worker]
        if worker.state is WorkerState.READY and len(others) < max(1, self.limits.min_instances):
            return self.condemn(serial, now, reason)
        return [self._retire(worker, now, reason), *self.balance(now)]

    def resize(self, change: int, now: float) -> list[Action]:
        """Keep so many workers more, up to `max_pool_size`, or fewer, down to one; then an idle one is retired."""
        least = min(1, self.limits.min_instances)
        wanted = min(max(self.limits.min_instances + change, least), self.limits.max_pool_size)
        self.limits = replace(self.limits, min_instances=wanted)
        ready = [w for w in self.incoming() if w.state is WorkerState.READY]
        idle = sorted((w for w in ready if not w.load.sessions), key=PoolWorker.idle_since)
        if change > 0 or len(ready) <= wanted or not idle:
            return self.balance(now)
        return [self._retire(idle[0], now, "the pool was reduced by one worker")]

    def evict(self, serial: int, now: float, reason: str) -> list[Action]:
        """Another group needs this worker's place: it retires, and is not replaced until there is room."""
        worker = self.workers.get(serial)
        if worker is None or worker.state is not WorkerState.READY:
            return []
        return [self._retire(worker, now, reason)]

    def close(self, now: float, reason: str) -> list[Action]:
        """The instance or the group ends: no worker is spawned any more, and all workers retire."""
        self.closed = True
        return [self._retire(worker, now, reason) for worker in self._alive()]

    # -- the numbers --------------------------------------------------------------------------------------------------

    def stays(self, serial: int) -> bool:
        """Whether this worker boots or serves, and does not retire."""
        worker = self.workers.get(serial)
        return worker is not None and worker.state in (WorkerState.BOOTING, WorkerState.READY)

    @property
    def alive(self) -> int:
        """Workers that boot or serve."""
        return len(self._alive())

    @property
    def goal(self) -> int:
        """The generation that new workers are of."""
        return self.generation if self.successor is None else self.successor

    def outgoing(self) -> list[PoolWorker]:
        """Ready workers that have to end once their replacement is ready, oldest generation first."""
        leaving = [w for w in self._of(WorkerState.READY) if w.generation != self.goal or w.worn]
        return sorted(leaving, key=lambda w: (w.generation, w.since))

    def _late(self) -> list[PoolWorker]:
        """Workers that still boot, although their generation is outdated."""
        return [w for w in self._of(WorkerState.BOOTING) if w.generation != self.goal]

    def incoming(self) -> list[PoolWorker]:
        """Workers of the goal's generation that boot or serve and do not have to be replaced."""
        return [w for w in self._alive() if w.generation == self.goal and not w.worn]

    def saturated(self) -> bool:
        """Whether no ready worker is free."""
        return all(worker.load.sessions for worker in self._of(WorkerState.READY))

    def balance(self, now: float, waiting: int = 0) -> list[Action]:
        """The workers to spawn so that the numbers hold again."""
        self.wants_room = False
        if self.closed or self.goal not in self.loaded_generations or now < self.backoff.until:
            return []
        return [self._spawn(now) for _ in range(self._wanted(waiting))]

    def _wanted(self, waiting: int) -> int:
        outgoing, incoming = self.outgoing(), self.incoming()
        booting = sum(w.state is WorkerState.BOOTING for w in incoming)
        # After a failure keep one worker starting. With none up, requests are answered with an error at once: no queue
        # would ever trigger a start.
        least = 1 if self.successor is not None or self.backoff.failures else 0
        floor = max(self.limits.min_instances, least)
        more = max(0, floor - len(incoming) - len(outgoing))
        if waiting and self.saturated():
            more = max(more, waiting - booting)
        replacing = min(len(outgoing), self.limits.parallel) - booting if outgoing else 0
        alive = len(self._alive())
        own_room = self.limits.max_pool_size + min(self.limits.parallel, alive - len(incoming)) - alive
        at_once = 1 if self.backoff.failures else self.limits.spawn_at_once
        may = max(0, min(own_room, at_once - booting))
        granted = min(more, may, self.room() if self.successor is None else may) if more and may else 0
        self.wants_room = bool(waiting and more and may and not granted and not booting)
        return max(granted, min(replacing, may))

    def coming(self) -> int:
        """How many workers will be ready soon: those that boot, and those that may still be spawned."""
        booting = sum(w.state is WorkerState.BOOTING for w in self.incoming())
        if self.closed or self.goal not in self.loaded_generations or self.backoff.failures:
            return booting
        return booting + max(0, min(self.limits.max_pool_size - len(self._alive()), self.room()))

    def check(self) -> None:
        """Check the invariants: for tests alone, which call it after every event. AssertionError: one is violated."""
        alive = len(self._alive())
        assert alive <= self.limits.max_pool_size + self.limits.parallel, f"{alive} workers"
        assert all(serial == worker.serial for serial, worker in self.workers.items())
        assert all(worker.state is not WorkerState.GONE for worker in self.workers.values())
        assert self.successor is None or self.successor > self.generation
        booting = sum(worker.state is WorkerState.BOOTING for worker in self.incoming())
        assert booting <= self.limits.spawn_at_once, f"{booting} workers boot at once"

    # -- the moves ----------------------------------------------------------------------------------------------------

    def _spawn(self, now: float) -> SpawnWorker:
        first = not any(worker.first for worker in self._alive() if worker.generation == self.goal)
        self._last_serial += 1
        serial = self._last_serial
        self.workers[serial] = PoolWorker(serial, self.goal, now, self._quota(serial), first)
        return SpawnWorker(serial, self.goal, first)

    def _quota(self, serial: int) -> int:
        # A multiplicative hash spreads neighbouring serials, so that workers spawned together do not end together.
        if not self.limits.max_requests:
            return 0
        return self.limits.max_requests + (serial * 2654435761 % 2**32) % (self.limits.max_requests_jitter + 1)

    def _retire(self, worker: PoolWorker, now: float, reason: str) -> Retire:
        worker.move(WorkerState.RETIRING, now)
        return Retire(worker.serial, reason)

    def _succeed_one(self, now: float) -> list[Action]:
        for worker in [*self.outgoing(), *self._late()][:1]:
            reason = worker.worn if worker.generation == self.goal else "a new generation is ready"
            return [self._retire(worker, now, reason)]
        return []

    def _finish_roll(self) -> list[Action]:
        if self.successor is None:
            return []
        old = [w for w in self._alive() if w.generation != self.successor]
        arrived = any(w.generation == self.successor for w in self._of(WorkerState.READY))
        if old or not arrived:
            return []
        self.generation, self.successor = self.successor, None
        return [RestartDone(self.generation)]

    def _abandon_roll(self, now: float, reason: str) -> list[Action]:
        failed, self.successor = self.goal, None
        self.backoff.succeeded()
        new = [w for w in self._alive() if w.generation == failed]
        return [RestartFailed(failed, reason), *(self._retire(w, now, "its generation cannot boot") for w in new)]

    def _overdue(self, now: float) -> list[Action]:
        return [action for worker in self.workers.values() for action in self._overdue_one(worker, now)]

    def _overdue_one(self, worker: PoolWorker, now: float) -> Iterator[Action]:
        limit, reason = {
            WorkerState.BOOTING: (self.limits.start_timeout, "start_timeout"),
            WorkerState.RETIRING: (self.limits.stop_timeout, "stop_timeout"),
        }.get(worker.state, (0.0, ""))
        if worker.was_idle and worker.load.sessions and not self.closed:
            # It took a request at the moment it was retired for being idle: that request is not cut short.
            return
        if worker.load.threads and self.limits.busy_threads_timeout > limit:
            limit, reason = self.limits.busy_threads_timeout, "busy_threads_timeout"
        if limit and now - worker.since > limit and not worker.killed:
            worker.killed = True
            yield Kill(worker.serial, f"{reason} of {limit:g} s is over")

    def _shrink(self, now: float, waiting: int) -> list[Action]:
        if not self.limits.pool_idle_time or waiting or self.successor is not None:
            return []
        spare = sum(w.state is WorkerState.READY for w in self.incoming()) - self.limits.min_instances
        idle = [w for w in self._of(WorkerState.READY) if self._idle_too_long(w, now)]
        leaving = sorted(idle, key=PoolWorker.idle_since)[: max(0, spare)]
        for worker in leaving:
            worker.was_idle = True
        return [self._retire(worker, now, "idle for pool_idle_time") for worker in leaving]

    def _idle_too_long(self, worker: PoolWorker, now: float) -> bool:
        return not worker.load.sessions and now - worker.idle_since() > self.limits.pool_idle_time

    def _died_early(self, worker: PoolWorker, now: float) -> bool:
        return worker.state is WorkerState.READY and not worker.load.processed and now - worker.since < EARLY_SECONDS

    def _proven(self, worker: PoolWorker, now: float) -> bool:
        """Whether this worker shows that workers spawned since the last failure can serve."""
        return worker.since >= self.backoff.last and bool(worker.load.processed or now - worker.since >= EARLY_SECONDS)

    def _of(self, state: WorkerState) -> Iterator[PoolWorker]:
        return (worker for worker in self.workers.values() if worker.state is state)

    def _alive(self) -> list[PoolWorker]:
        return [w for w in self.workers.values() if w.state in (WorkerState.BOOTING, WorkerState.READY)]
