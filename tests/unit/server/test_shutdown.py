"""shutdown.py: in which order a server ends, and what it waits for no longer when its time is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import gevent
import pytest

from appsrv.server.pool.handles import WorkerHandle
from appsrv.server.shutdown import OVERDUE, REAP_SECONDS, SILENT_SECONDS, UNGRACEFUL_SECONDS, Shutdown
from appsrv.settings.table import Settings

SETTINGS = Settings(stop_timeout=30.0, stop_delay=0.0)


class World:
    """A front end, applications and TLS that note what is asked of them, and a clock that only sleeping moves.

    Each attribute that is a number is the time at which what it names is over.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.waiting_until = self.lanes_until = self.tls_until = self.busy_until = self.workers_until = 0.0
        self.killed_after = 0.0
        self.hung_up = 0.0
        self.steps: list[tuple[float, str]] = []

    def note(self, step: str) -> None:
        if (last := self.steps[-1:]) == [] or last[0][1] != step:
            self.steps.append((self.now - 100.0, step))

    # The front end.
    def stop_accepting(self) -> None:
        self.note("stop accepting")

    def close_idle(self) -> None:
        self.note("close idle")

    def in_lanes(self) -> bool:
        return self.now < self.lanes_until

    # The applications.
    def announce_stop(self) -> None:
        self.note("announce")

    def count_waiting(self) -> int:
        return int(self.now < self.waiting_until)

    def busy(self) -> bool:
        return self.now < self.busy_until

    def close_all(self) -> None:
        self.note("close")

    def kill_all(self, reason: str) -> None:
        self.note(f"kill: {reason}")
        self.workers_until = self.now + self.killed_after

    def workers_left(self, counts: Callable[[WorkerHandle], bool]) -> bool:
        handle: WorkerHandle = SimpleNamespace(hung_up=self.hung_up)  # type: ignore[assignment]
        return self.now < self.workers_until and counts(handle)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        gevent.sleep(0)

    def end(self, settings: Settings = SETTINGS, *, graceful: bool = True, orphaned: bool = False,
            development: bool = False, again: float | None = None) -> float:
        """Begin to stop, and once more with a request to stop at once after so many seconds; how long it took."""
        shutdown = Shutdown(
            settings, self, self, lambda: self.now >= self.tls_until, development=development,
            clock=lambda: self.now, sleep=self.sleep,
        )
        shutdown.begin(graceful=graceful, orphaned=orphaned)
        assert shutdown.begun
        while again is not None and self.now < 100.0 + again:
            gevent.sleep(0)
        if again is not None:
            shutdown.begin(graceful=False)
        shutdown.wait()
        return self.now - 100.0

    def order(self) -> list[str]:
        """What was asked for, without what was asked for again and again."""
        return [step for _, step in self.steps if step != "close idle"]

    def when(self, step: str) -> float:
        """Seconds after the beginning at which this was asked for first."""
        return next(at for at, name in self.steps if name == step)


@pytest.fixture
def world() -> World:
    return World()


def test_an_idle_server_ends_at_once(world: World) -> None:
    assert world.end() == 0.0
    assert world.order() == ["announce", "stop accepting", "close"]


def test_workers_are_retired_when_their_requests_are_taken(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.waiting_until, world.lanes_until = 105.0, 108.0
    world.busy_until = world.workers_until = 120.0
    assert world.end() == pytest.approx(20.0, abs=0.1)
    assert world.when("close") == pytest.approx(8.0, abs=0.1), "what is being read is still to be served"
    assert world.order() == ["announce", "stop accepting", "close"]
    assert "waiting for requests that are being served" in caplog.text


def test_a_short_wait_writes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.workers_until = world.busy_until = 100.0 + SILENT_SECONDS / 2
    world.end()
    assert not caplog.text


def test_workers_that_do_not_end_are_killed(world: World) -> None:
    world.workers_until, world.killed_after = 1e9, 0.5
    assert world.end() == pytest.approx(30.5, abs=0.1)
    assert world.order()[-1] == f"kill: {OVERDUE}"
    assert world.when(f"kill: {OVERDUE}") == pytest.approx(SETTINGS.stop_timeout, abs=0.1)


def test_a_process_that_even_a_kill_does_not_end_holds_nothing_up(world: World) -> None:
    world.workers_until, world.killed_after = 1e9, 1e9
    assert world.end() == pytest.approx(SETTINGS.stop_timeout + REAP_SECONDS, abs=0.1)


def test_requests_nobody_takes_leave_the_workers_time_to_end(world: World) -> None:
    world.waiting_until = 1e9
    world.end()
    assert world.when("close") == pytest.approx(SETTINGS.stop_timeout - REAP_SECONDS, abs=0.1)


def test_a_development_server_does_not_wait_for_what_waits_behind_a_stream(world: World) -> None:
    world.waiting_until = 1e9
    world.end(development=True)
    assert world.when("close") == pytest.approx(SILENT_SECONDS, abs=0.1)


@pytest.mark.parametrize("last", ["lanes_until", "tls_until"])
def test_what_the_server_itself_sends_is_sent_to_its_end(world: World, last: str) -> None:
    setattr(world, last, 107.0)
    assert world.end() == pytest.approx(7.0, abs=0.1)
    setattr(world, last, 1e9)
    world.now = 100.0
    assert world.end() == pytest.approx(SETTINGS.stop_timeout, abs=0.1), "but not for ever"


def test_until_the_delay_is_over_requests_are_taken(world: World) -> None:
    assert world.end(replace(SETTINGS, stop_delay=10.0)) == pytest.approx(10.0)
    assert (world.when("announce"), world.when("stop accepting")) == (0.0, 10.0)


def test_a_second_stop_has_its_own_time(world: World) -> None:
    world.workers_until, world.killed_after = 1e9, 1e9
    seconds = pytest.approx(5.0 + UNGRACEFUL_SECONDS + REAP_SECONDS, abs=0.1)
    assert world.end(again=5.0) == seconds
    assert world.order().count("close") == 2
    for _ in range(10):
        gevent.sleep(0)
    assert world.now - 100.0 == seconds, "the first one waits no longer"


def test_a_second_stop_ends_the_delay(world: World) -> None:
    delayed = replace(SETTINGS, stop_delay=1000.0)
    shutdown = Shutdown(delayed, world, world, development=False, clock=lambda: world.now)
    shutdown.begin(graceful=True)
    gevent.sleep(0)
    assert "stop accepting" not in world.order()
    shutdown.begin(graceful=False)
    shutdown.wait()
    assert world.order() == ["announce", "stop accepting", "close"]


def test_without_the_watchdog_a_closed_channel_is_the_end_of_a_worker(world: World) -> None:
    world.workers_until, world.hung_up = 1e9, 50.0
    assert world.end(graceful=False, orphaned=True) == 0.0
    assert world.order() == ["announce", "stop accepting", "close"]
