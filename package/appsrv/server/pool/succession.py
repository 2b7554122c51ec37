"""Loads a generation only when the processes of older generations have ended: they hold what only one process can have.

A process releases a port on which the application listens, a lock or a pid file when it ends, at the latest. Decides
when the load begins. Does not know which processes there are (`generations`), nor how one is ended (`lifecycle`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LET_GO_SECONDS = 1.0
"""How long the new code waits for the processes of the old code after a file was saved (development).

A worker that serves no request, or a stream, ends sooner. A worker that serves a request may take any time: after
this time the new code is loaded while the old worker still lives.
"""

KILLED_SECONDS = 2.0
"""How long a restart waits for the end of processes that it has killed."""


class Succession:
    """One generation at a time: a later call of `start` replaces the one before.

    `others` returns whether processes of older generations exist. `begin` loads the generation. `again` loads the code
    again when it could not be loaded beside older processes, and these have ended.
    """

    def __init__(
        self, others: Callable[[int], bool], begin: Callable[[int], None], again: Callable[[], None],
        *, later: Callable[..., Any],
    ) -> None:
        """`later(seconds, function, *arguments)` calls the function after that time; its result has `kill`."""
        self._others = others
        self._begin = begin
        self._again = again
        self._later = later
        self._waiting = 0
        self._beside = 0
        self._failed = False
        self._timer: Any = None

    def start(self, generation: int, seconds: float, kill: Callable[[int], None] | None = None) -> None:
        """Load this generation when the older processes have ended, or after `seconds`.

        `kill` is called to end the older processes after that time; without it the generation is loaded beside them.
        """
        self._stop_timer()
        self._waiting, self._beside, self._failed = generation, 0, False
        if not self._others(generation):
            self._go()
            return
        self._timer = self._later(seconds, self._overdue, generation, kill)

    def ended(self) -> None:
        """A process has ended."""
        if self._waiting and not self._others(self._waiting):
            self._stop_timer()
            self._go()
        elif self._beside and self._failed and not self._others(self._beside):
            self._beside, self._failed = 0, False
            self._again()

    def failed(self, generation: int) -> None:
        """This generation cannot be loaded. If older processes lived meanwhile, they may be the cause: it is loaded
        again when they have ended.
        """
        self._failed = self._failed or generation == self._beside
        self.ended()

    def stop(self) -> None:
        """Load no generation that still waits."""
        self._stop_timer()
        self._waiting = self._beside = 0

    def _overdue(self, generation: int, kill: Callable[[int], None] | None) -> None:
        self._timer = None
        if kill is None:
            self._beside = generation
            self._go()
        else:
            kill(generation)
            self._timer = self._later(KILLED_SECONDS, self._overdue, generation, None)

    def _go(self) -> None:
        generation, self._waiting = self._waiting, 0
        self._begin(generation)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.kill(block=False)
            self._timer = None
