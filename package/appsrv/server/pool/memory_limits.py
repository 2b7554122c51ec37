"""The memory of processes, and the limits on the memory of workers.

Measures the proportional set size (PSS, proc(5)): forked workers share most of the application's memory, and the sum of
their resident sizes would count it once for each worker. Without PSS, the unique set size (USS) is measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import psutil
from gevent import get_hub

from appsrv.server.pool.workers import Workers
from appsrv.system.words import memory as in_words

CHECK_PERIOD_SECONDS = 1.0


def share(process: psutil.Process) -> int:
    """The PSS in bytes; else the USS, else the resident set size."""
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return int(process.memory_info().rss)
    return int(getattr(full, "pss", full.uss))


def share_above(pid: int, limit: int) -> int:
    """The PSS of a process if it is above the limit, else 0.

    A resident size within the limit, which is cheap to read, shows this without reading the PSS.
    """
    try:
        process = psutil.Process(pid)
        used = share(process) if process.memory_info().rss > limit else 0
    except psutil.Error:
        return 0
    return used if used > limit else 0


def family_share(process: psutil.Process) -> int:
    """The PSS in bytes of a process and all its descendants: a generic application runs below its worker."""
    with contextlib.suppress(psutil.Error):
        return share(process) + sum(map(_share_or_none, process.children(recursive=True)))
    return 0


def _share_or_none(process: psutil.Process) -> int:
    try:
        return share(process)
    except psutil.Error:
        return 0  # It has ended meanwhile.


def family_share_above(pid: int, limit: int) -> int:
    """As `share_above`, for a process and all its descendants."""
    try:
        used = family_share(psutil.Process(pid))
    except psutil.Error:
        return 0
    return used if used > limit else 0


class MemoryLimits:
    """Checks the workers once a second, if there is a limit (0: none)."""

    def __init__(
        self, limit: int, hard_limit: int, workers: Workers, *, serving: Callable[[], Iterable[int]],
        condemn: Callable[[int, str], None], measure: Callable[[int, int], int] = share_above,
    ) -> None:
        """`serving`: the serials of the ready workers. `condemn` (serial, reason): replace a worker without a gap."""
        self._limit = limit
        self._hard_limit = hard_limit
        self._workers = workers
        self._serving = serving
        self._condemn = condemn
        self._measure = measure
        self._timer: Any = get_hub().loop.timer(CHECK_PERIOD_SECONDS, repeat=CHECK_PERIOD_SECONDS)
        if limit or hard_limit:
            self._timer.start(self.check)

    def stop(self) -> None:
        """Check no more."""
        self._timer.stop()

    def check(self) -> None:
        """Check the workers now."""
        least = min(filter(None, (self._limit, self._hard_limit)))
        serving = set(self._serving())
        for serial, handle in self._workers.items():
            used = self._measure(handle.pid, least) if handle.pid > 0 else 0
            if used and self._hard_limit and used > self._hard_limit:
                self._workers.kill(serial, _reason("hard_memory_limit", self._hard_limit, used))
            elif used and self._limit and serial in serving and handle.load().processed:
                # A worker that is too large before it has served a request would be replaced by one as large.
                self._condemn(serial, _reason("memory_limit", self._limit, used))


def _reason(name: str, limit: int, used: int) -> str:
    return f"it used {in_words(used)}, above {name} ({in_words(limit)})"
