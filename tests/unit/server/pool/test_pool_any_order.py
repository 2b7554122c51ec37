"""pool.py: events in any order hypothesis can think of, and what holds after each of them and in the end."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appsrv.server.pool.pool import (
    Action,
    Kill,
    Load,
    Pool,
    PoolLimits,
    PoolWorker,
    RestartDone,
    RestartFailed,
    Retire,
    SpawnWorker,
    WorkerState,
)

BOOTING, READY, RETIRING = WorkerState.BOOTING, WorkerState.READY, WorkerState.RETIRING
PICK = st.integers(0, 20)
LIMITS = st.builds(
    PoolLimits,
    max_pool_size=st.integers(1, 5),
    min_instances=st.integers(0, 3),
    pool_idle_time=st.sampled_from([0.0, 5.0]),
    start_timeout=st.just(3.0),
    stop_timeout=st.just(3.0),
    max_requests=st.sampled_from([0, 4]),
    max_requests_jitter=st.integers(0, 2),
    parallel=st.integers(1, 3),
    spawn_at_once=st.integers(1, 4),
).filter(lambda limits: limits.min_instances <= limits.max_pool_size)


class World(RuleBasedStateMachine):
    """What surrounds a pool: workers that do what they like, whenever they like."""

    @initialize(limits=LIMITS)
    def start(self, limits: PoolLimits) -> None:
        self.pool = Pool(limits)
        self.now = 100.0
        self.generation = 1
        self.loads: dict[int, Load] = {}
        self.asked: Counter[tuple[type[Action], int]] = Counter()
        self.did(self.pool.loaded(1, self.now))

    # -- what may happen

    @rule(seconds=st.sampled_from([0.1, 0.9, 4.0, 31.0]), waiting=st.sampled_from([0, 0, 1, 9]))
    def look(self, seconds: float, waiting: int) -> None:
        """The manager looks at the scoreboard and the queue after a while."""
        self.now += seconds
        overdue = {s for s, w in self.pool.workers.items() if w.state in (BOOTING, RETIRING) and self.now - w.since > 3}
        actions = self.did(self.pool.observe(self.loads, waiting, self.now))
        killed = {action.serial for action in actions if isinstance(action, Kill)}
        assert killed <= overdue
        assert not any(w.was_idle and w.load.sessions for s, w in self.pool.workers.items() if s in killed)
        if any(isinstance(action, Retire) for action in actions):
            assert not waiting
            assert self.useful() >= self.pool.limits.min_instances

    @precondition(lambda self: self.of(BOOTING))
    @rule(pick=PICK)
    def becomes_ready(self, pick: int) -> None:
        serial = self.one_of(pick, BOOTING)
        before = len(self.of(READY))
        actions = self.did(self.pool.ready(serial, self.now))
        assert len(self.of(READY)) >= before, "a gap"
        if any(isinstance(action, Retire) for action in actions):
            enough = len(self.of(READY)) >= self.pool.limits.max_pool_size
            assert self.useful() or enough, "the old ones left before there was a new one"

    @precondition(lambda self: self.pool.workers)
    @rule(pick=PICK, served=st.booleans())
    def ends(self, pick: int, served: bool) -> None:
        serial = self.one_of(pick, BOOTING, READY, RETIRING)
        old = {s for s in self.of(READY) if self.pool.workers[s].generation == self.pool.generation} - {serial}
        actions = self.did(self.pool.gone(serial, self.now, served=served))
        del self.loads[serial]
        if any(isinstance(action, RestartFailed) for action in actions):
            assert old <= set(self.of(READY)), "a failed restart took a worker that served"

    @precondition(lambda self: self.of(BOOTING))
    @rule(pick=PICK)
    def is_not_made(self, pick: int) -> None:
        """Its preloader went first."""
        serial = self.one_of(pick, BOOTING)
        failures = self.pool.backoff.failures
        self.did(self.pool.never_forked(serial, self.now))
        del self.loads[serial]
        assert self.pool.backoff.failures == failures

    @precondition(lambda self: self.of(READY, RETIRING))
    @rule(pick=PICK, sessions=st.integers(0, 2), requests=st.integers(0, 3))
    def works(self, pick: int, sessions: int, requests: int) -> None:
        """A worker serves; the pool hears of it at the next look."""
        serial = self.one_of(pick, READY, RETIRING)
        self.loads[serial] = Load(sessions, self.loads[serial].processed + requests, self.now)

    @rule()
    def rolls(self) -> None:
        self.generation += 1
        ready = self.of(READY)
        self.did(self.pool.roll(self.generation, self.now))
        assert self.of(READY) == ready

    @rule(loads_at_once=st.booleans())
    def is_replaced(self, loads_at_once: bool) -> None:
        self.generation += 1
        actions = self.did(self.pool.replace(self.generation, self.now))
        assert not self.alive()
        assert not any(isinstance(action, SpawnWorker) for action in actions)
        if loads_at_once:
            self.did(self.pool.loaded(self.generation, self.now))

    @rule()
    def preloader_loads(self) -> None:
        self.did(self.pool.loaded(self.pool.goal, self.now))

    @rule(pick=PICK)
    def preloader_dies(self, pick: int) -> None:
        self.did(self.pool.lost(max(1, self.generation - pick % 3), self.now, "killed"))

    @precondition(lambda self: self.pool.workers)
    @rule(pick=PICK)
    def is_detached(self, pick: int) -> None:
        self.did(self.pool.detach(self.one_of(pick, BOOTING, READY, RETIRING), self.now, "asked for"))

    @rule(change=st.sampled_from([-1, 1]))
    def is_resized(self, change: int) -> None:
        self.did(self.pool.resize(change, self.now))
        assert 0 <= self.pool.limits.min_instances <= self.pool.limits.max_pool_size

    @precondition(lambda self: self.pool.workers)
    @rule(pick=PICK)
    def is_condemned(self, pick: int) -> None:
        ready = self.of(READY)
        actions = self.did(self.pool.condemn(self.one_of(pick, BOOTING, READY, RETIRING), self.now, "too large"))
        assert self.of(READY) == ready
        assert all(isinstance(action, SpawnWorker) for action in actions)

    # -- what holds whenever

    @invariant()
    def books_are_right(self) -> None:
        self.pool.check()

    @invariant()
    def one_of_each_generation_stands_for_all(self) -> None:
        firsts = [worker.generation for worker in self.alive() if worker.first]
        assert len(set(firsts)) == len(firsts)

    @invariant()
    def minimum_is_held(self) -> None:
        pool = self.pool
        if pool.goal in pool.loaded_generations and not pool.backoff.failures:
            at_once = len([s for s in self.of(BOOTING) if pool.workers[s].generation == pool.goal])
            assert len(self.alive()) >= pool.limits.min_instances or at_once == pool.limits.spawn_at_once

    def did(self, actions: list[Action]) -> list[Action]:
        """Hold each action against the books as they are after the event."""
        for action in actions:
            if isinstance(action, SpawnWorker):
                self._check_spawn(action)
            elif isinstance(action, RestartDone):
                assert {worker.generation for worker in self.alive()} == {action.generation}
            elif isinstance(action, RestartFailed):
                assert action.generation not in {worker.generation for worker in self.alive()}
            else:
                self.asked[type(action), action.serial] += 1
                assert self.asked[type(action), action.serial] == 1, action
                assert action.serial in self.pool.workers
        return actions

    def _check_spawn(self, action: SpawnWorker) -> None:
        assert not self.pool.closed
        assert action.generation in self.pool.loaded_generations
        assert self.now >= self.pool.backoff.until
        assert action.serial not in self.loads
        self.loads[action.serial] = Load(0, 0, 0.0)

    # -- what holds in the end

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self._all_goes_well()
            self._all_ends()

    def _all_goes_well(self) -> None:
        """From wherever it is, a pool whose workers boot comes to rest: rolled, whole and unworn."""
        for _ in range(100):
            self.now += 1.5
            self.did(self.pool.loaded(self.pool.goal, self.now))
            for serial in self.of(RETIRING):
                self.did(self.pool.gone(serial, self.now))
            for serial in self.of(BOOTING):
                self.did(self.pool.ready(serial, self.now))
            self.did(self.pool.observe({}, 0, self.now))
            self.pool.check()
        assert self.pool.successor is None
        assert self.pool.backoff.failures == 0 or not self.of(READY)
        assert self.of(BOOTING) + self.of(RETIRING) == []
        assert self.pool.limits.min_instances <= self.useful() <= self.pool.limits.max_pool_size
        assert self.pool.outgoing() == []

    def _all_ends(self) -> None:
        self.did(self.pool.close(self.now, "the server stops"))
        assert self.alive() == []
        self.did(self.pool.observe({}, 9, self.now + 3.1))
        assert all(self.asked[Kill, serial] for serial in self.pool.workers)
        for serial in list(self.pool.workers):
            assert self.did(self.pool.gone(serial, self.now)) == []

    # -- questions

    def of(self, *states: WorkerState) -> list[int]:
        return [serial for serial, worker in self.pool.workers.items() if worker.state in states]

    def one_of(self, pick: int, *states: WorkerState) -> int:
        found = self.of(*states)
        return found[pick % len(found)]

    def alive(self) -> list[PoolWorker]:
        return [worker for worker in self.pool.workers.values() if worker.state in (BOOTING, READY)]

    def useful(self) -> int:
        """Ready workers that nobody has to replace."""
        return sum(worker.state is READY for worker in self.pool.incoming())


TestAnyOrder = World.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
