"""The lookout: reads the scoreboard and the queue, often while there is work and seldom while there is none.

Sees numbers and passes them on; what follows from them is the pool's and the manager's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gevent import get_hub

from appsrv.handles import WorkerHandle
from appsrv.parking import Parking
from appsrv.pool import Load

OFTEN, SELDOM = 0.02, 0.25
QUIET = 2.0
SOON = 1.0
SHORTEST = 0.01


@dataclass(frozen=True)
class View:
    """What one look has shown. `pace`: requests that all workers together have done a second since the last one."""

    now: float
    loads: Mapping[int, Load]
    waiting: int
    pace: float

    @property
    def drains_soon(self) -> bool:
        """A queue that is gone within `SOON` seconds at this pace is no overload."""
        return self.waiting <= self.pace * SOON


class Lookout:
    """Looks, and calls `report` with what it has seen."""

    def __init__(
        self, workers: Mapping[int, WorkerHandle], parking: Parking, report: Callable[[View], None]
    ) -> None:
        self.waiting = 0
        self.taken_by_dead = 0
        self._workers = workers
        self._parking = parking
        self._report = report
        self._processed: dict[int, int] = {}
        self._looked = time.monotonic()
        self._pace = 0.0
        self._arrived = 0
        self._active_until = 0.0
        loop = get_hub().loop
        self._often: Any = loop.timer(OFTEN, repeat=OFTEN)
        self._seldom: Any = loop.timer(SELDOM, repeat=SELDOM)
        self._seldom.start(self._look)

    def nudge(self) -> None:
        """Something is going on: look often for a while."""
        self._active_until = time.monotonic() + QUIET
        if not self._often.active:
            self._often.start(self._look_often)

    def may_exceed(self, most: float) -> bool:
        """One more request has come: whether more than `most` might wait, as far as can be told without looking."""
        self._arrived += 1
        return self.waiting + self._arrived > most

    def stop(self) -> None:
        """Look no more."""
        self._often.stop()
        self._seldom.stop()

    def look(self) -> View:
        """Look now."""
        now = time.monotonic()
        loads = {serial: handle.load() for serial, handle in self._workers.items()}
        done = sum(load.processed - self._processed.get(serial, 0) for serial, load in loads.items())
        if now - self._looked >= SHORTEST:
            self._pace = done / (now - self._looked)
            self._processed = {serial: load.processed for serial, load in loads.items()}
            self._looked = now
        if done:
            self.nudge()
        self.waiting, self._arrived = self._count_waiting(), 0
        return View(now, loads, self.waiting, self._pace)

    def _look_often(self) -> None:
        if time.monotonic() > self._active_until:
            self._often.stop()
        self._look()

    def _look(self) -> None:
        self._report(self.look())

    def _count_waiting(self) -> int:
        taken = self.taken_by_dead + sum(handle.slot.taken for handle in self._workers.values())
        return self._parking.waiting(taken)
