"""Restarts of one application group, one at a time: who asked waits for the outcome, and a failed one is remembered.

Knows when a restart begins and how it ended; how one is done is the manager's and the pool's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from gevent.event import AsyncResult

from appsrv.handles import Failure, Outcome


class Restarts:
    """`resisting`: why the last restart failed, until the next one; meanwhile the code before it goes on serving."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.resisting: Failure | None = None
        self.parallel = 1
        self.succeeded = self.failed = 0
        self._begin = begin
        self._running: AsyncResult[Outcome] | None = None
        self._next: tuple[AsyncResult[Outcome], int] | None = None
        self._last: Outcome | None = None

    @property
    def running(self) -> bool:
        """Whether the outcome of one is still open."""
        return self._running is not None

    def ask(self, parallel: int) -> Outcome:
        """Restart, `parallel` workers at a time; returns when the new generation serves alone or has failed."""
        ours: AsyncResult[Outcome] = AsyncResult()
        if self._last is not None:
            return self._last
        if self._running is None and self._next is None:
            self._start(ours, parallel)
        else:
            # What runs may have read the code before the last change. One more is enough for all who ask meanwhile.
            ours = self._next[0] if self._next is not None else ours
            self._next = ours, parallel
        outcome = ours.get()
        assert outcome is not None
        return outcome

    def over(self, outcome: Outcome) -> None:
        """The one that is running, if any, has ended like this."""
        running, self._running = self._running, None
        if not outcome.ok and not outcome.superseded:
            self.resisting = Failure(time.time(), outcome.message, outcome.traceback)
        if running is not None:
            self.succeeded += outcome.ok
            self.failed += not (outcome.ok or outcome.superseded)
            running.set(outcome)
        if self._next is not None:
            # Not from in here: whoever tells of the end is in the middle of it.
            gevent.spawn(self._start_next)

    def end(self, outcome: Outcome) -> None:
        """There are no more: this is what all hear who wait, or ask later."""
        self._last = outcome
        running, waiting = self._running, self._next
        self._running = self._next = None
        for asked in filter(None, (running, waiting and waiting[0])):
            asked.set(outcome)

    def _start_next(self) -> None:
        if self._next is not None and self._running is None:
            (ours, parallel), self._next = self._next, None
            self._start(ours, parallel)

    def _start(self, ours: AsyncResult[Outcome], parallel: int) -> None:
        self._running, self.resisting, self.parallel = ours, None, parallel
        self._begin()
