"""pool.py: scripted races, each a list of events with the invariants checked after each one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from appsrv.server.pool.pool import (
    LEGAL_MOVES,
    Action,
    Backoff,
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


class Script:
    """A pool, a clock and what the pool has asked for; `check()` runs after each event."""

    def __init__(self, **limits: float) -> None:
        self.pool = Pool(replace(PoolLimits(), **limits))  # type: ignore[arg-type]
        self.now = 1000.0
        self.loads: dict[int, Load] = {}

    def did(self, actions: list[Action]) -> list[Action]:
        """An event has happened: hold the books against the invariants."""
        self.pool.check()
        return actions

    def loaded(self, generation: int = 1) -> list[Action]:
        return self.did(self.pool.loaded(generation, self.now))

    def roll(self, generation: int) -> list[Action]:
        return self.did(self.pool.roll(generation, self.now))

    def replace(self, generation: int) -> list[Action]:
        return self.did(self.pool.replace(generation, self.now))

    def ready(self, serial: int) -> list[Action]:
        return self.did(self.pool.ready(serial, self.now))

    def gone(self, serial: int, reason: str = "ended", *, served: bool = False) -> list[Action]:
        return self.did(self.pool.gone(serial, self.now, reason, served=served))

    def load(self, serial: int, sessions: int = 0, processed: int = 0) -> None:
        """What the scoreboard says of a worker from now on."""
        self.loads[serial] = Load(sessions, processed, self.now)

    def observe(self, waiting: int = 0, *, after: float = 0.0) -> list[Action]:
        self.now += after
        return self.did(self.pool.observe(self.loads, waiting, self.now))

    def boot(self, workers: int) -> list[int]:
        """Generation 1 with so many workers that have nothing to do."""
        self.loaded()
        while len(self.ready_ones()) < workers:
            for serial, worker in list(self.pool.workers.items()):
                if worker.state is WorkerState.BOOTING:
                    self.ready(serial)
                self.load(serial, sessions=1)
            self.observe(waiting=workers - len(self.pool.workers))
        for serial in self.loads:
            self.load(serial)
        self.observe(after=2.0)
        return self.ready_ones()

    def ready_ones(self) -> list[int]:
        """Serials of the workers that serve."""
        return [s for s, w in self.pool.workers.items() if w.state is WorkerState.READY]


def spawned(actions: list[Action]) -> list[int]:
    return [action.serial for action in actions if isinstance(action, SpawnWorker)]


def retired(actions: list[Action]) -> list[int]:
    return [action.serial for action in actions if isinstance(action, Retire)]


def killed(actions: list[Action]) -> list[int]:
    return [action.serial for action in actions if isinstance(action, Kill)]


# -- numbers


def test_nothing_is_spawned_before_a_preloader_can_fork() -> None:
    script = Script(min_instances=2)
    assert script.observe(waiting=5) == []
    assert script.loaded() == [SpawnWorker(1, 1, first=True), SpawnWorker(2, 1, first=False)]


def test_waiting_requests_bring_workers_up_to_the_maximum() -> None:
    script = Script(max_pool_size=3)
    script.boot(1)
    script.load(1, sessions=1)
    assert spawned(script.observe(waiting=10)) == [2, 3]
    assert script.observe(waiting=10) == []


def test_a_burst_is_met_by_several_workers_at_once_but_not_by_any_number() -> None:
    script = Script(max_pool_size=20, spawn_at_once=4)
    script.boot(1)
    script.load(1, sessions=1)
    assert spawned(script.observe(waiting=50)) == [2, 3, 4, 5]
    assert script.observe(waiting=50) == []
    assert script.ready(2) == []
    script.load(2, sessions=1)
    assert spawned(script.observe(waiting=50)) == [6]


def test_the_minimum_is_restored_in_steps_that_the_machine_can_bear() -> None:
    script = Script(max_pool_size=20, min_instances=6, spawn_at_once=4)
    assert spawned(script.loaded()) == [1, 2, 3, 4]
    assert spawned(script.ready(1)) == [5]
    assert spawned(script.ready(2)) == [6]
    assert script.ready(3) == []


def test_what_is_coming_is_what_boots_and_what_may_still_be_spawned() -> None:
    script = Script(max_pool_size=4)
    assert script.pool.coming() == 0
    script.boot(1)
    script.load(1, sessions=1)
    assert script.pool.coming() == 3
    (second,) = spawned(script.observe(waiting=1))
    assert script.pool.coming() == 3
    script.gone(second)
    assert script.pool.coming() == 0, "none can be counted on while boots fail"


def test_booting_workers_count_against_waiting_requests() -> None:
    script = Script()
    script.boot(1)
    script.load(1, sessions=1)
    assert spawned(script.observe(waiting=1)) == [2]
    assert script.observe(waiting=1) == []
    assert spawned(script.observe(waiting=3)) == [3, 4]


def test_nothing_is_spawned_while_a_worker_is_free() -> None:
    script = Script()
    script.boot(2)
    script.load(1, sessions=1)
    assert script.observe(waiting=3) == []


def test_a_dead_worker_is_replaced_at_once() -> None:
    script = Script(min_instances=2)
    script.boot(2)
    assert script.gone(1, "killed by SIGKILL") == [SpawnWorker(3, 1, first=True)]
    assert script.gone(2, "killed by SIGKILL") == [SpawnWorker(4, 1, first=False)]


def test_a_dead_worker_above_the_minimum_is_not_replaced() -> None:
    script = Script()
    script.boot(3)
    assert script.gone(2) == []


def test_replacement_waits_for_the_preloader() -> None:
    script = Script()
    script.boot(1)
    script.pool.unloaded(1)
    assert script.gone(1) == []
    assert spawned(script.loaded()) == [2]


def test_who_boots_or_serves_stays_and_who_retires_does_not() -> None:
    """What a worker has seen of changed code counts from its first moment on, but not when it is on its way out."""
    script = Script(min_instances=1)
    script.loaded()
    assert script.pool.stays(1), "booting"
    script.ready(1)
    assert script.pool.stays(1), "ready"
    script.replace(2)
    assert not script.pool.stays(1), "retiring"
    assert not script.pool.stays(99), "unknown"


def test_events_of_unknown_workers_are_ignored() -> None:
    script = Script()
    script.boot(1)
    assert script.ready(99) + script.gone(99) + script.pool.detach(99, script.now, "no reason") == []
    script.loads[99] = Load(1, 1, script.now)
    assert script.observe() == []


def test_detach_lets_one_worker_go_at_once_where_enough_are_left() -> None:
    script = Script(max_pool_size=3)
    script.boot(3)
    assert script.did(script.pool.detach(1, script.now, "asked for")) == [Retire(1, "asked for")]
    assert script.pool.detach(1, script.now, "asked for") == []


def test_detach_waits_for_the_successor_where_one_is_needed() -> None:
    script = Script(max_pool_size=1)
    script.boot(1)
    assert script.did(script.pool.detach(1, script.now, "asked for")) == [SpawnWorker(2, 1, first=False)]
    assert script.pool.detach(1, script.now, "asked for") == []
    assert script.ready(2) == [Retire(1, "asked for")]


def test_resize_up_to_max_pool_size() -> None:
    script = Script(max_pool_size=3)
    script.boot(1)
    assert spawned(script.did(script.pool.resize(1, script.now))) == [2]
    assert spawned(script.did(script.pool.resize(1, script.now))) == [3]
    assert script.did(script.pool.resize(1, script.now)) == []
    assert script.pool.limits.min_instances == 3


def test_resize_down_to_one_and_only_an_idle_worker_leaves() -> None:
    script = Script(max_pool_size=3, min_instances=3)
    script.boot(3)
    for serial in (1, 2, 3):
        script.load(serial, sessions=1)
    script.observe()
    assert script.did(script.pool.resize(-1, script.now)) == []
    script.load(2, sessions=0)
    script.observe()
    assert script.did(script.pool.resize(-1, script.now)) == [Retire(2, "the pool was reduced by one worker")]
    assert script.did(script.pool.resize(-1, script.now)) == []
    assert script.pool.limits.min_instances == 1
    assert Script(min_instances=0).pool.resize(-1, 0.0) == []


def test_close_retires_everyone_and_spawns_nobody() -> None:
    script = Script(min_instances=2)
    script.boot(2)
    assert retired(script.pool.close(script.now, "the server stops")) == [1, 2]
    assert script.gone(1) + script.gone(2) + script.observe(waiting=9) + script.loaded() == []


# -- idle shutdown


def test_idle_workers_leave_after_their_time_longest_idle_first() -> None:
    script = Script(pool_idle_time=10)
    script.boot(3)
    script.load(2)
    script.now += 9
    script.load(1)
    assert script.observe(after=2) == [Retire(3, "idle for pool_idle_time"), Retire(2, "idle for pool_idle_time")]


def test_idle_shutdown_stops_at_the_minimum() -> None:
    script = Script(pool_idle_time=10, min_instances=2)
    script.boot(3)
    assert len(retired(script.observe(after=100))) == 1
    assert retired(script.observe(after=100)) == []


def test_a_worker_that_has_just_taken_a_request_does_not_leave() -> None:
    script = Script(pool_idle_time=10)
    script.boot(2)
    script.loads[1] = Load(1, 0, script.now)
    assert retired(script.observe(after=100)) == [2]


@pytest.mark.parametrize("sessions", [0, 1])
def test_a_worker_told_to_leave_while_it_takes_a_request_has_all_the_time_for_it(sessions: int) -> None:
    """The race: the look shows it idle, it takes a request, the order to leave reaches it."""
    script = Script(pool_idle_time=10, stop_timeout=5)
    script.boot(2)
    assert retired(script.observe(after=11)) == [1]
    script.load(1, sessions=sessions)
    assert killed(script.observe(after=100)) == ([] if sessions else [1])
    script.load(1)
    assert killed(script.observe(after=100)) == ([1] if sessions else [])


def test_when_the_server_stops_that_time_is_over() -> None:
    script = Script(pool_idle_time=10, stop_timeout=5)
    script.boot(2)
    script.observe(after=11)
    script.load(1, sessions=1)
    script.pool.close(script.now, "the server stops")
    assert killed(script.observe(after=100)) == [1, 2]


def test_nobody_leaves_while_requests_wait() -> None:
    script = Script(pool_idle_time=10)
    script.boot(3)
    assert script.observe(waiting=1, after=100) == []


def test_idle_time_zero_means_never() -> None:
    script = Script(pool_idle_time=0)
    script.boot(3)
    assert script.observe(after=1e6) == []


def test_a_booting_worker_does_not_let_the_last_ready_one_leave() -> None:
    script = Script(pool_idle_time=10)
    script.boot(1)
    script.load(1, sessions=1)
    assert spawned(script.observe(waiting=1)) == [2]
    script.load(1)
    assert retired(script.observe(after=20)) == []
    script.ready(2)
    assert retired(script.observe()) == [1]


# -- recycling


def test_quota_is_spread_by_jitter() -> None:
    limits = PoolLimits(max_pool_size=50, min_instances=50, max_requests=100, max_requests_jitter=10, spawn_at_once=50)
    pool = Pool(limits)
    pool.loaded(1, 0.0)
    quotas = {worker.quota for worker in pool.workers.values()}
    assert quotas <= set(range(100, 111))
    assert len(quotas) > 5


def test_no_max_requests_means_no_quota() -> None:
    assert not PoolWorker(1, 1, 0.0, 0, load=Load(0, 10**9, 0.0)).worn


def test_a_worn_worker_leaves_when_its_successor_is_ready() -> None:
    script = Script(max_pool_size=1, max_requests=5)
    script.boot(1)
    script.load(1, processed=5)
    assert script.observe() == [SpawnWorker(2, 1, first=False)]
    assert script.observe() == []
    assert script.ready(2) == [Retire(1, "it served its max_requests")]


def test_a_worn_worker_goes_on_while_successors_die() -> None:
    script = Script(max_pool_size=1, max_requests=5)
    script.boot(1)
    script.load(1, processed=9)
    assert spawned(script.observe()) == [2]
    assert script.gone(2) == []
    assert spawned(script.observe(after=1)) == [3]
    assert script.ready_ones() == [1]


def test_workers_born_together_are_recycled_one_at_a_time() -> None:
    script = Script(max_pool_size=3, min_instances=3, max_requests=5)
    script.boot(3)
    for serial in (1, 2, 3):
        script.load(serial, processed=6)
    assert spawned(script.observe()) == [4]
    assert script.ready(4) == [Retire(1, "it served its max_requests"), SpawnWorker(5, 1, first=True)]


def test_a_condemned_worker_serves_until_its_successor_is_ready() -> None:
    script = Script(max_pool_size=1)
    script.boot(1)
    assert spawned(script.did(script.pool.condemn(1, script.now, "too large"))) == [2]
    assert script.did(script.pool.condemn(1, script.now, "too large")) == []
    assert script.ready_ones() == [1]
    assert script.ready(2) == [Retire(1, "too large")]


def test_a_condemned_worker_that_dies_first_is_replaced_by_its_successor() -> None:
    script = Script(max_pool_size=1)
    script.boot(1)
    (successor,) = spawned(script.pool.condemn(1, script.now, "too large"))
    assert script.gone(1, served=True) == []
    assert script.ready(successor) == []
    assert script.ready_ones() == [successor]


def test_a_condemned_worker_stays_when_its_successor_cannot_boot() -> None:
    script = Script(max_pool_size=1)
    script.boot(1)
    (successor,) = spawned(script.pool.condemn(1, script.now, "too large"))
    assert script.gone(successor) == []
    assert script.ready_ones() == [1]
    assert len(spawned(script.observe(after=1))) == 1


def test_only_a_worker_that_serves_is_condemned() -> None:
    script = Script()
    script.loaded()
    assert script.pool.condemn(1, script.now, "too large") == []
    assert script.pool.condemn(99, script.now, "too large") == []


# -- rolling restart


def test_roll_replaces_one_by_one_without_a_gap() -> None:
    script = Script(max_pool_size=3, min_instances=3)
    script.boot(3)
    actions = script.roll(2)
    for old in (1, 2, 3):
        (successor,) = spawned(actions)
        before = len(script.ready_ones())
        actions = script.ready(successor)
        assert retired(actions) == [old]
        assert len(script.ready_ones()) == before
    assert actions[-1] == RestartDone(2)
    assert {script.pool.workers[serial].generation for serial in script.ready_ones()} == {2}


def test_one_roll_may_have_its_own_parallel() -> None:
    script = Script(max_pool_size=4, min_instances=4)
    script.boot(4)
    assert len(script.did(script.pool.roll(2, script.now, 3))) == 3


def test_roll_runs_in_parallel_as_far_as_allowed() -> None:
    script = Script(max_pool_size=4, min_instances=4, parallel=2)
    script.boot(4)
    assert len(spawned(script.roll(2))) == 2


def test_roll_of_an_empty_pool_boots_one_worker() -> None:
    script = Script(min_instances=0)
    assert script.loaded() == []
    (serial,) = spawned(script.roll(2))
    assert script.ready(serial) == [RestartDone(2)]


def test_an_old_worker_that_dies_in_a_roll_is_made_up_for_by_a_new_one() -> None:
    script = Script(max_pool_size=2, min_instances=2)
    script.boot(2)
    (first,) = spawned(script.roll(2))
    assert script.gone(1) == []
    assert retired(script.ready(first)) == [2]
    assert [w.generation for w in script.pool.workers.values() if w.state is not WorkerState.RETIRING] == [2, 2]


def test_an_old_worker_that_becomes_ready_in_a_roll_is_nobodys_successor() -> None:
    script = Script(max_pool_size=2)
    script.loaded()
    (new,) = spawned(script.roll(2))
    assert script.ready(1) == []
    assert script.ready_ones() == [1]
    assert script.gone(new, "exit code 1")[0] == RestartFailed(2, "exit code 1")
    assert script.ready_ones() == [1]


def test_a_roll_over_booting_workers_does_not_exceed_the_pool() -> None:
    script = Script(max_pool_size=4, min_instances=4)
    script.loaded()
    assert len(spawned(script.roll(2))) == 1
    assert script.observe(waiting=50) == []


def test_a_failed_roll_keeps_the_old_generation() -> None:
    script = Script(max_pool_size=2, min_instances=2)
    script.boot(2)
    (new,) = spawned(script.roll(2))
    assert script.gone(new, "exit code 3") == [RestartFailed(2, "exit code 3")]
    assert script.ready_ones() == [1, 2]
    assert (script.pool.generation, script.pool.successor) == (1, None)
    assert script.observe(after=60) == []


def test_a_roll_that_fails_half_way_takes_the_new_workers_back() -> None:
    script = Script(max_pool_size=3, min_instances=3)
    script.boot(3)
    (first,) = spawned(script.roll(2))
    (second,) = spawned(script.ready(first))
    actions = script.gone(second, "killed by SIGSEGV")
    assert actions[0] == RestartFailed(2, "killed by SIGSEGV")
    assert retired(actions) == [first]
    assert len(spawned(actions)) == 1
    assert {w.generation for w in script.pool.incoming()} == {1}


def test_a_new_worker_that_dies_young_fails_the_roll_unless_it_served() -> None:
    for served, outcome in ((False, RestartFailed), (True, SpawnWorker)):
        script = Script(max_pool_size=2, min_instances=2)
        script.boot(2)
        (first,) = spawned(script.roll(2))
        script.ready(first)
        actions = script.gone(first, served=served)
        assert isinstance(actions[0], outcome) if actions else outcome is SpawnWorker
        assert (script.pool.successor is None) is not served


def test_a_preloader_that_dies_in_a_roll_fails_it() -> None:
    script = Script(max_pool_size=2, min_instances=2)
    script.boot(2)
    (new,) = spawned(script.roll(2))
    actions = script.did(script.pool.lost(2, script.now, "killed by SIGKILL"))
    assert actions == [RestartFailed(2, "killed by SIGKILL"), Retire(new, "its generation cannot boot")]
    assert spawned(script.gone(1)) == [4]


def test_the_death_of_another_preloader_does_not_touch_a_roll() -> None:
    script = Script()
    script.boot(1)
    script.roll(2)
    assert script.pool.lost(1, script.now, "killed by SIGKILL") == []
    assert script.pool.successor == 2


def test_replace_takes_the_old_workers_out_at_once() -> None:
    script = Script()
    script.boot(2)
    assert retired(script.replace(2)) == [1, 2]
    assert script.loaded(2) == [SpawnWorker(3, 2, first=True)]


def test_replace_ends_a_roll() -> None:
    script = Script()
    script.boot(1)
    (new,) = spawned(script.roll(2))
    assert retired(script.replace(3)) == [1, new]
    assert (script.pool.generation, script.pool.successor) == (3, None)


# -- failures and limits in time


def test_backoff_doubles_up_to_its_longest() -> None:
    backoff = Backoff()
    waits = []
    for _ in range(40):
        backoff.failed(0.0)
        waits.append(backoff.until)
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert set(waits[8:]) == {30.0}


def fails_while_booting(script: Script, serial: int) -> None:
    script.gone(serial)


def fails_when_ready(script: Script, serial: int) -> None:
    script.ready(serial)
    script.gone(serial)


@pytest.mark.parametrize("failure", [fails_while_booting, fails_when_ready])
def test_workers_that_die_in_a_row_are_made_ever_more_slowly(failure: Callable[[Script, int], None]) -> None:
    script = Script()
    (serial,) = spawned(script.loaded())
    for wait in (0.25, 0.5, 1.0, 2.0, 4.0):
        failure(script, serial)
        assert spawned(script.observe(after=wait * 0.9)) == []
        (serial,) = spawned(script.observe(after=wait * 0.11))


def test_while_boots_fail_one_is_tried_at_a_time() -> None:
    script = Script(max_pool_size=4, min_instances=4)
    for serial in spawned(script.loaded()):
        script.gone(serial)
    assert len(spawned(script.observe(after=60))) == 1
    assert script.observe(after=1) == []


def test_after_a_failure_one_is_tried_although_nobody_waits() -> None:
    """While all are answered at once that nothing serves, nobody waits: else it would never be found mended."""
    script = Script(min_instances=0)
    assert script.loaded() == []
    (serial,) = spawned(script.observe(waiting=1))
    script.gone(serial)
    (serial,) = spawned(script.observe(after=1))
    script.ready(serial)
    assert script.observe(after=60) == []
    script.gone(serial)
    assert script.observe(after=60) == []


@pytest.mark.parametrize(("after", "processed"), [(1.5, 0), (0.1, 1)])
def test_a_worker_that_lives_ends_the_backoff(after: float, processed: int) -> None:
    script = Script(max_pool_size=4, min_instances=4)
    for serial in spawned(script.loaded()):
        script.gone(serial)
    (serial,) = spawned(script.observe(after=60))
    assert len(spawned(script.ready(serial))) == 1
    script.load(serial, processed=processed)
    assert len(spawned(script.observe(after=after))) == 2


def test_healthy_workers_serve_on_while_boots_fail() -> None:
    script = Script()
    script.boot(1)
    script.load(1, sessions=1)
    (second,) = spawned(script.observe(waiting=1))
    assert script.gone(second) == []
    assert script.ready_ones() == [1]
    assert script.pool.backoff.failures == 1
    script.observe(after=0.1)
    assert script.pool.backoff.failures == 1, "a worker from before the failure proves nothing"


def test_a_boot_that_takes_too_long_is_killed_once() -> None:
    script = Script(start_timeout=5)
    script.loaded()
    assert script.observe(after=5) == []
    assert script.observe(after=0.1) == [Kill(1, "start_timeout of 5 s is over")]
    assert script.observe(after=10) == []


def test_a_worker_that_does_not_leave_is_killed_once() -> None:
    script = Script(stop_timeout=5)
    script.boot(1)
    script.pool.close(script.now, "the server stops")
    assert script.observe(after=4.9) == []
    assert killed(script.observe(after=0.2)) == [1]
    assert script.observe(after=10) == []


def test_timeouts_of_zero_mean_never() -> None:
    script = Script(start_timeout=0, stop_timeout=0)
    script.loaded()
    assert script.observe(after=1e6) == []


@pytest.mark.parametrize("state", list(WorkerState))
def test_only_the_moves_of_the_table_are_made(state: WorkerState) -> None:
    for target in WorkerState:
        worker = PoolWorker(1, 1, 0.0, 0, state=state)
        if target in LEGAL_MOVES[state]:
            worker.move(target, 1.0)
            assert (worker.state, worker.since) == (target, 1.0)
        else:
            with pytest.raises(AssertionError, match="worker 1"):
                worker.move(target, 1.0)


def test_a_worker_whose_preloader_died_first_is_nobodys_failure() -> None:
    """Otherwise its successors would have to wait, and clients would be told that the application is broken."""
    script = Script(min_instances=2)
    first, second = spawned(script.loaded())
    script.ready(first)
    script.did(script.pool.lost(1, script.now, "killed"))
    assert script.did(script.pool.never_forked(second, script.now)) == []
    assert (script.pool.backoff.failures, script.ready_ones()) == (0, [first])
    assert len(spawned(script.loaded())) == 1
    assert script.did(script.pool.never_forked(second, script.now)) == [], "told twice"


def test_a_worker_that_waits_for_its_threads_has_a_limit_of_its_own() -> None:
    script = Script(stop_timeout=5, busy_threads_timeout=60)
    script.loaded()
    script.ready(1)
    script.did(script.pool.detach(1, script.now, "asked for"))
    script.ready(2)
    assert script.pool.workers[1].state is WorkerState.RETIRING
    script.loads[1] = Load(0, 0, 0.0, threads=2)
    assert script.observe(after=59) == []
    # The threads have ended: what is left to do has its usual time.
    script.loads[1] = Load(0, 0, 0.0)
    assert script.observe() == []
    assert script.observe(after=4) == []
    assert script.observe(after=2) == [Kill(1, "stop_timeout of 5 s is over")]


def test_threads_do_not_keep_a_worker_beyond_their_limit() -> None:
    for waits, said in ((60, "busy_threads_timeout of 60 s is over"), (0, "stop_timeout of 5 s is over")):
        script = Script(stop_timeout=5, busy_threads_timeout=waits)
        script.loaded()
        script.ready(1)
        script.did(script.pool.close(script.now, "the server stops"))
        script.loads[1] = Load(0, 0, 0.0, threads=1)
        assert script.observe(after=max(waits, 5) - 1) == []
        assert script.observe(after=2) == [Kill(1, said)]
