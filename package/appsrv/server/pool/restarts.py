"""Restarts of one application group, one at a time: who asked waits for the outcome, and a failed one is remembered.

Knows when a restart begins and how it ended; how one is done is the manager's and the pool's business.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence

import gevent
from gevent.event import AsyncResult

from appsrv.server.pool.handles import Failure, Outcome

_IN_USE = os.strerror(errno.EADDRINUSE)
_HELD = (os.strerror(errno.EAGAIN), os.strerror(errno.EEXIST), "is locked")


def conflict_hint(failure: Failure, listening: Sequence[str]) -> str:
    """What may be done where a load failed for want of what only one process can have: a port, a lock.

    `listening`: the addresses on which the code that serves listens.
    """
    said = f"{failure.message}\n{failure.traceback}"
    way_out = "`appsrv restart-app --stop-first` ends it before the new code is loaded, while requests wait"
    if _IN_USE in said:
        if listening:
            return f" (the code that serves listens on {', '.join(listening)}: {way_out})"
        return f" (where the code that serves has the address, {way_out})"
    if any(words in said for words in _HELD):
        return f" (where the code that serves holds it, {way_out})"
    return ""


class Restarts:
    """`resisting`: why the last restart failed, until the next one; meanwhile the code before it goes on serving."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.resisting: Failure | None = None
        self.parallel = 1
        self.stop_first = False
        self.succeeded = self.failed = 0
        self._begin = begin
        self._running: AsyncResult[Outcome] | None = None
        self._next: tuple[AsyncResult[Outcome], int, bool] | None = None
        self._last: Outcome | None = None

    @property
    def running(self) -> bool:
        """Whether the outcome of one is still open."""
        return self._running is not None

    def ask(self, parallel: int, *, stop_first: bool = False) -> Outcome:
        """Restart, `parallel` workers at a time; returns when the new generation serves alone or has failed.

        `stop_first`: the processes of the generation before end before the new one is loaded.
        """
        ours: AsyncResult[Outcome] = AsyncResult()
        if self._last is not None:
            return self._last
        if self._running is None and self._next is None:
            self._start(ours, parallel, stop_first)
        else:
            # What runs may have read the code before the last change. One more is enough for all who ask meanwhile.
            if self._next is not None:
                ours, _, asked = self._next
                stop_first = stop_first or asked
            self._next = ours, parallel, stop_first
        outcome = ours.get()
        assert outcome is not None
        return outcome

    def over(self, outcome: Outcome) -> None:
        """The one that is running, if any, has ended like this."""
        running, self._running = self._running, None
        if not (outcome.ok or outcome.superseded or outcome.stopped):
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
            (ours, parallel, stop_first), self._next = self._next, None
            self._start(ours, parallel, stop_first)

    def _start(self, ours: AsyncResult[Outcome], parallel: int, stop_first: bool) -> None:
        self._running, self.resisting, self.parallel, self.stop_first = ours, None, parallel, stop_first
        self._begin()
