"""Admission: whether one more request may wait, or is answered 503. Pure: told what was seen and when, decides.

The queue is full when more than `max_request_queue_size` requests wait and every ready worker is busy; for each worker
that boots or may still be spawned, one more may wait. That number may be left to appsrv (`auto`), since the length of a
queue alone says little: then 100 may wait, and any number that is served within a second at the present pace, which
after the coming of a crowd is known only `GRACE` seconds later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from appsrv.lookout import View
from appsrv.values import AUTO

AUTOMATIC = 100
GRACE = 0.1
SAY_AGAIN = 60.0


class Admission:
    """The door of one application group's queue. `most` is `max_request_queue_size`; 0: no limit."""

    def __init__(self, most: int) -> None:
        self.automatic = most == AUTO
        self.most: float = AUTOMATIC if self.automatic else most or math.inf
        self.refused = 0
        self._crowded_since = math.inf
        self._said = -SAY_AGAIN

    def excess(self, view: View, ready: Iterable[int], coming: int = 0, more: int = 0) -> int:
        """How many requests are too many, of those that wait and `more`.

        `ready`: the workers that could take them; `coming`: requests that workers to come will take.
        """
        if view.waiting + 1 <= self.most or not all(view.loads[serial].sessions for serial in ready):
            self._crowded_since = math.inf
            return 0
        self._crowded_since = min(self._crowded_since, view.now)
        if self.automatic and (view.now - self._crowded_since < GRACE or view.drains_soon):
            return 0
        return max(0, view.waiting + more - coming - int(self.most))

    def count(self, refused: int, now: float, oldest: Callable[[], float]) -> str | None:
        """So many have been refused; returns what to log about it, now and then. `oldest`: how long one has waited."""
        self.refused += refused
        if not refused or now < self._said + SAY_AGAIN:
            return None
        self._said = now
        return (
            f"requests are refused: all workers are busy and max_request_queue_size ({self.most:g}) requests wait, "
            f"the oldest for {oldest():.1f} s ({self.refused} refused so far)"
        )
