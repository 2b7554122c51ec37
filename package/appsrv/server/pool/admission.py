"""Admission: whether one more request may wait, or is answered 503. Pure: gets a reading of the load, and decides.

The queue is full when more than `max_request_queue_size` requests wait and every ready worker is busy; for each worker
that boots or may still be spawned, one more may wait. With `auto`, 100 requests may wait, and any number of them that
is served within a second at the present throughput: the length of a queue alone does not show an overload. The
throughput after a sudden rise is known only `GRACE_SECONDS` later, so nothing is refused before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from appsrv.server.pool.load_monitor import View
from appsrv.settings.parsers import AUTO

AUTOMATIC_QUEUE_SIZE = 100
GRACE_SECONDS = 0.1
LOG_AGAIN_SECONDS = 60.0


class Admission:
    """The limit of one application group's queue. `most` is `max_request_queue_size`; 0: no limit."""

    def __init__(self, most: int) -> None:
        self.automatic = most == AUTO
        self.most: float = AUTOMATIC_QUEUE_SIZE if self.automatic else most or math.inf
        self.refused = 0
        self._full_since = math.inf
        self._logged_at = -LOG_AGAIN_SECONDS

    def excess(self, view: View, ready: Iterable[int], coming: int = 0, more: int = 0) -> int:
        """How many of the requests that wait, and of `more` that arrive now, have to be refused.

        `ready`: the serials of the workers that serve; `coming`: how many requests the workers that boot, or may still
        be spawned, will take.
        """
        if view.waiting + 1 <= self.most or not all(view.loads[serial].sessions for serial in ready):
            self._full_since = math.inf
            return 0
        self._full_since = min(self._full_since, view.now)
        if self.automatic and (view.now - self._full_since < GRACE_SECONDS or view.drains_in_time):
            return 0
        return max(0, view.waiting + more - coming - int(self.most))

    def count(self, refused: int, now: float, oldest: Callable[[], float]) -> str | None:
        """Count refused requests; returns a line for the log, at most once a minute.

        `oldest`: for how many seconds the oldest request has waited.
        """
        self.refused += refused
        if not refused or now < self._logged_at + LOG_AGAIN_SECONDS:
            return None
        self._logged_at = now
        return (
            f"requests are refused: all workers are busy and max_request_queue_size ({self.most:g}) requests wait, "
            f"the oldest for {oldest():.1f} s ({self.refused} refused so far)"
        )
