"""The load monitor: reads the scoreboard and the queue, often while there are requests and seldom while there are none.

Passes on the numbers; the decisions are those of `pool` and of `admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gevent import get_hub

from appsrv.server.frontend.parking import Parking
from appsrv.server.pool.handles import WorkerHandle
from appsrv.server.pool.pool import Load

BUSY_PERIOD_SECONDS, IDLE_PERIOD_SECONDS = 0.02, 0.25
# How long after the last request the scoreboard is still read often.
BUSY_AFTER_REQUEST_SECONDS = 2.0
SHORT_QUEUE_SECONDS = 1.0
# Two readings closer together than this give no reliable rate.
RATE_INTERVAL_SECONDS = 0.01


@dataclass(frozen=True)
class View:
    """One reading. `throughput`: requests that all workers together have done per second since the reading before."""

    now: float
    loads: Mapping[int, Load]
    waiting: int
    throughput: float

    @property
    def drains_in_time(self) -> bool:
        """Whether the queue is served within `SHORT_QUEUE_SECONDS` at this throughput, so that it is no overload."""
        return self.waiting <= self.throughput * SHORT_QUEUE_SECONDS


class LoadMonitor:
    """Reads the load at intervals, and calls `report` with each reading."""

    def __init__(
        self, workers: Mapping[int, WorkerHandle], parking: Parking, *, report: Callable[[View], None],
        now: Callable[[], float],
    ) -> None:
        self.waiting = 0
        self._taken_by_ended = 0
        self._workers = workers
        self._parking = parking
        self._report = report
        self._now = now
        self._processed: dict[int, int] = {}
        self._read_at = now()
        self._throughput = 0.0
        self._arrived = 0
        self._active_until = 0.0
        loop = get_hub().loop
        self._busy_timer: Any = loop.timer(BUSY_PERIOD_SECONDS, repeat=BUSY_PERIOD_SECONDS)
        self._idle_timer: Any = loop.timer(IDLE_PERIOD_SECONDS, repeat=IDLE_PERIOD_SECONDS)
        self._idle_timer.start(self._read_and_report)

    def read_frequently(self) -> None:
        """Read the load often for a while: a request has arrived, or workers have done some."""
        self._active_until = self._now() + BUSY_AFTER_REQUEST_SECONDS
        if not self._busy_timer.active:
            self._busy_timer.start(self._read_while_busy)

    def may_exceed(self, most: float) -> bool:
        """One more request has arrived: whether more than `most` might wait. Cheap, so without a new reading."""
        self._arrived += 1
        return self.waiting + self._arrived > most

    def stop(self) -> None:
        """Read no more."""
        self._busy_timer.stop()
        self._idle_timer.stop()

    def worker_ended(self, taken: int) -> None:
        """A worker has ended that had taken so many requests from the hand-off socket; its slot is used again."""
        self._taken_by_ended += taken

    def read(self) -> View:
        """Read the load now."""
        now = self._now()
        loads = {serial: handle.load() for serial, handle in self._workers.items()}
        done = sum(load.processed - self._processed.get(serial, 0) for serial, load in loads.items())
        if now - self._read_at >= RATE_INTERVAL_SECONDS:
            self._throughput = done / (now - self._read_at)
            self._processed = {serial: load.processed for serial, load in loads.items()}
            self._read_at = now
        if done:
            self.read_frequently()
        self.waiting, self._arrived = self._count_waiting(), 0
        return View(now, loads, self.waiting, self._throughput)

    def _read_while_busy(self) -> None:
        if self._now() > self._active_until:
            self._busy_timer.stop()
        self._read_and_report()

    def _read_and_report(self) -> None:
        self._report(self.read())

    def _count_waiting(self) -> int:
        taken = self._taken_by_ended + sum(handle.slot.taken for handle in self._workers.values())
        return self._parking.waiting(taken)
