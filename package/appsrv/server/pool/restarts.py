"""Restarts of one application group, one at a time: each caller waits for the outcome, and the last failure is kept.

Knows when a restart begins and how it has ended. Does not know how one is done (`lifecycle`, `pool`).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence

import gevent
from gevent.event import AsyncResult

from appsrv.server.pool.handles import Failure, RestartOutcome

_IN_USE = os.strerror(errno.EADDRINUSE)
_HELD = (os.strerror(errno.EAGAIN), os.strerror(errno.EEXIST), "is locked")


def conflict_hint(failure: Failure, listening: Sequence[str]) -> str:
    """Advice where a load failed since the old code holds what only one process can have, such as a port or a lock.

    `listening`: the addresses on which the code that serves listens.
    """
    text = f"{failure.message}\n{failure.traceback}"
    advice = "`appsrv restart-app --stop-first` ends it before the new code is loaded, while requests wait"
    if _IN_USE in text:
        if listening:
            return f" (the code that serves listens on {', '.join(listening)}: {advice})"
        return f" (where the code that serves has the address, {advice})"
    if any(words in text for words in _HELD):
        return f" (where the code that serves holds it, {advice})"
    return ""


class Restarts:
    """`resisting`: why the last restart failed, until the next one begins; the old code serves meanwhile."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.resisting: Failure | None = None
        self.parallel = 1
        self.stop_first = False
        self.succeeded = self.failed = 0
        self._begin = begin
        self._running: AsyncResult[RestartOutcome] | None = None
        self._next: tuple[AsyncResult[RestartOutcome], int, bool] | None = None
        self._last: RestartOutcome | None = None
        self._stopped_for = 0

    @property
    def running(self) -> bool:
        """Whether a restart runs."""
        return self._running is not None

    def ask(self, parallel: int, *, stop_first: bool = False) -> RestartOutcome:
        """Restart, `parallel` workers at a time; returns when the new generation serves alone or has failed.

        `stop_first`: the processes of the old generation end before the new one is loaded.
        """
        ours: AsyncResult[RestartOutcome] = AsyncResult()
        if self._last is not None:
            return self._last
        if self._running is None and self._next is None:
            self._start(ours, parallel, stop_first)
        else:
            # The restart that runs may have read the code before its last change, so it is not enough for this caller.
            # One more restart is enough for all callers that come while this one runs.
            if self._next is not None:
                ours, _, asked = self._next
                stop_first = stop_first or asked
            self._next = ours, parallel, stop_first
        outcome = ours.get()
        assert outcome is not None
        return outcome

    def over(self, outcome: RestartOutcome) -> None:
        """End the restart that runs, if any, with this outcome."""
        running, self._running = self._running, None
        if not (outcome.ok or outcome.superseded or outcome.stopped):
            self.resisting = Failure(time.time(), outcome.message, outcome.traceback)
        if running is not None:
            self.succeeded += outcome.ok
            self.failed += not (outcome.ok or outcome.superseded)
            running.set(outcome)
        if self._next is not None:
            # Not from in here: the caller is still in the middle of ending this restart.
            gevent.spawn(self._start_next)

    def end(self, outcome: RestartOutcome) -> None:
        """Start no more restarts: all callers that wait, or call later, get this outcome."""
        self._last = outcome
        running, waiting = self._running, self._next
        self._running = self._next = None
        for asked in filter(None, (running, waiting and waiting[0])):
            asked.set(outcome)

    def set_resisting(self, failure: Failure | None) -> None:
        """Keep why the newest code does not serve; None when it is loaded again."""
        self.resisting = failure

    # -- restarts that stop the old code first ------------------------------------------------------------------------

    def stop_first_for(self, generation: int) -> None:
        """The restart that runs ends when this generation serves or cannot serve: the old code ends before."""
        self._stopped_for = generation

    def serves(self, generation: int) -> bool:
        """This generation serves; returns whether that ends a restart that has stopped the old code first."""
        if generation != self._stopped_for:
            return False
        self._stopped_for = 0
        self.over(RestartOutcome(True, generation))
        return True

    def cannot_serve(self, generation: int, failure: Failure) -> None:
        """This generation cannot serve. If the old code was stopped for it, the restart ends, and no code serves."""
        if generation == self._stopped_for:
            self._stopped_for = 0
            self.over(RestartOutcome(False, generation, failure.message, failure.traceback, stopped=True))

    def _start_next(self) -> None:
        if self._next is not None and self._running is None:
            (ours, parallel, stop_first), self._next = self._next, None
            self._start(ours, parallel, stop_first)

    def _start(self, ours: AsyncResult[RestartOutcome], parallel: int, stop_first: bool) -> None:
        self._running, self.resisting, self.parallel, self.stop_first = ours, None, parallel, stop_first
        self._begin()
