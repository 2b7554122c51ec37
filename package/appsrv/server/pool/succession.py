"""A generation that is loaded only when the processes of those before it have ended: they hold what only one can have.

A port that the application listens on, a lock, a pid file are let go of by the end of the process at the latest. Knows
when to begin; which processes there are, and how one is ended, is the manager's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

LET_GO_SECONDS = 1.0
"""How long a save waits for a process of the code before it. One without requests, or with streams, ends sooner.

A request may take any time, and its end is waited for; then the new code is loaded beside it.
"""

KILLED_SECONDS = 2.0
"""How long the end of a process is waited for that was killed."""


class Succession:
    """One generation at a time; the last one asked for counts.

    `others` tells whether processes of generations before this one exist, `begin` loads the generation, `again` loads
    what could not be loaded beside them, once they have ended.
    """

    def __init__(
        self, others: Callable[[int], bool], begin: Callable[[int], None], again: Callable[[], None],
        later: Callable[..., Any] = gevent.spawn_later,
    ) -> None:
        """`later(seconds, function, *arguments)` calls the function by then; what it returns has `kill`."""
        self._others = others
        self._begin = begin
        self._again = again
        self._later = later
        self._waiting = 0
        self._beside = 0
        self._failed = False
        self._timer: Any = None

    def start(self, generation: int, seconds: float, kill: Callable[[int], None] | None = None) -> None:
        """Begin with this generation when the others have ended, after so many seconds at the latest.

        `kill` ends the others when the time is over; without it the generation is loaded beside them.
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
        """This generation cannot be loaded; it is tried again if others, which may be why, still had to end."""
        self._failed = self._failed or generation == self._beside
        self.ended()

    def stop(self) -> None:
        """Begin with nothing more."""
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
