"""Admission: whether one more request may wait, or is answered 503. Pure: told what was seen and when, decides.

The queue is full when more than `max_request_queue_size` requests wait, every ready worker is busy, and it has been so
for `GRACE` seconds without the prospect of an end: a queue that drains within a second is no overload.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from appsrv.lookout import View

GRACE = 0.1
SAY_AGAIN = 10.0


class Admission:
    """The door of one application group's queue. `most` is `max_request_queue_size`; 0: no limit."""

    def __init__(self, most: int) -> None:
        self.most: float = most or math.inf
        self.refused = 0
        self._crowded_since = math.inf
        self._said = -SAY_AGAIN

    def full(self, view: View, ready: Iterable[int], more: int = 0) -> bool:
        """Whether `more` requests beyond those that wait are too many; `ready`: the workers that could take them."""
        if view.waiting + 1 <= self.most or not all(view.loads[serial].sessions for serial in ready):
            self._crowded_since = math.inf
            return False
        # How fast a crowd will be served can only be told after a moment.
        self._crowded_since = min(self._crowded_since, view.now)
        lasting = view.now - self._crowded_since >= GRACE and not view.drains_soon
        return lasting and view.waiting + more > self.most

    def excess(self, view: View) -> int:
        """How many of those that wait are too many."""
        return max(0, view.waiting - int(self.most)) if self.most < math.inf else 0

    def count(self, refused: int, now: float) -> str | None:
        """So many have been refused; returns what to log about it, now and then."""
        self.refused += refused
        if not refused or now < self._said + SAY_AGAIN:
            return None
        self._said = now
        return (
            f"requests are refused: all workers are busy and max_request_queue_size ({self.most:g}) requests wait "
            f"({self.refused} refused so far)"
        )
