"""Threads on demand: several threads of one worker that cost nothing while requests are fast.

Eight threads that all wait for requests fight for the interpreter lock. Here one *leader* takes and serves; a *deputy*
waits until something is ready and takes the lead only when the leader has been in the application for longer than
`TAKE_OVER_SECONDS`; all other threads are spare and wait. Fast requests run as if there were one thread, slow ones each
get their own. Knows when to lead, not what is served.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from appsrv.system import unpatched

TAKE_OVER_SECONDS = 0.002


class Leadership:
    """Shares one queue among threads.

    `turn(me)` waits for one request while it holds `taking`. When it has one, it calls `busy()`, releases `taking` and
    serves the request. It returns False when the worker is to end.
    """

    def __init__(self, queue: int, turn: Callable[[int], bool], check_ms: int) -> None:
        """`check_ms`: how often, in milliseconds, the deputy checks whether the worker is to end."""
        self._queue = queue
        self._check_ms = check_ms
        self._turn = turn
        self._spare = threading.Semaphore(0)
        self._leader: int | None = 0
        self._busy_since = 0.0
        self._over = False
        self.taking = unpatched.Lock()

    def busy(self) -> None:
        """The leader has taken a request."""
        self._busy_since = time.monotonic()

    def run(self, count: int) -> None:
        """Serve in `count` threads, of which the calling one is the first, until a turn returns False."""
        others = [threading.Thread(target=self._wait_to_lead, args=(n,), name=f"appsrv-{n}") for n in range(1, count)]
        for thread in others:
            thread.daemon = True
            thread.start()
        if others:
            self._spare.release()
        self._lead(0)
        self._wait_to_lead(0)
        for thread in others:
            thread.join()

    def end(self) -> None:
        """Let no thread take anything more."""
        self._over = True
        for _ in range(threading.active_count()):
            self._spare.release()

    def _wait_to_lead(self, me: int) -> None:
        while not self._over:
            self._spare.acquire()
            if not self._over and self._is_needed():
                self._spare.release()
                self._lead(me)

    def _lead(self, me: int) -> None:
        self._leader = me
        try:
            while self._leader == me and not self._over:
                self._busy_since = 0.0
                if not self._turn(me):
                    self.end()
        except BaseException:
            # A thread that dies while it waits would leave the others without a leader.
            self.end()
            raise

    def _is_needed(self) -> bool:
        """Wait, as the deputy, until a request waits and the leader is busy; False when the worker ends."""
        poll = unpatched.poll()
        poll.register(self._queue, unpatched.POLLIN)
        while not self._over:
            if not poll.poll(self._check_ms):
                continue
            unpatched.sleep(TAKE_OVER_SECONDS)
            since = self._busy_since
            if since and time.monotonic() - since > TAKE_OVER_SECONDS:
                return True
        return False
