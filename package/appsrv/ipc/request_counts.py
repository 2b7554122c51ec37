"""Counts of the requests that workers have answered: by class of status, and by duration (a histogram).

A thread of a worker writes its counts into shared memory; the server reads them and adds them up. There is one writer
per tally and no lock: each number has 8 bytes and is written by one instruction. `metrics` gives the numbers names.

    classes u64 * 10 (by the first digit of the status) · buckets u64 * 15 · seconds f64
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

TALLY_BYTES = 256
# The upper bounds of the buckets. One more bucket counts the requests that took longer.
BUCKET_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CLASSES = 10
_BUCKETS = len(BUCKET_BOUNDS_SECONDS) + 1
_SECONDS_AT = 8 * (_CLASSES + _BUCKETS)


@dataclass
class Counts:
    """Sums over workers. `requests` and `busy` (seconds with a connection) are known without a tally, too.

    `classes[n]`: responses with a status of n00 to n99. `buckets[n]`: requests that took at most
    `BUCKET_BOUNDS_SECONDS[n]` and more than the bound before it; `seconds`: their total duration.
    """

    requests: int = 0
    busy: float = 0.0
    classes: list[int] = field(default_factory=lambda: [0] * _CLASSES)
    buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    seconds: float = 0.0

    def add(self, other: Counts) -> None:
        """Add the other counts to these."""
        self.requests += other.requests
        self.busy += other.busy
        self.classes = [a + b for a, b in zip(self.classes, other.classes, strict=True)]
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds


def total(parts: Iterable[Counts]) -> Counts:
    """The sum of all parts."""
    whole = Counts()
    for part in parts:
        whole.add(part)
    return whole


class Tally:
    """The counts of one thread, in `TALLY_BYTES` of shared memory."""

    __slots__ = ("_buckets", "_classes", "_seconds")

    def __init__(self, memory: memoryview) -> None:
        self._classes = memory[: 8 * _CLASSES].cast("Q")
        self._buckets = memory[8 * _CLASSES : _SECONDS_AT].cast("Q")
        self._seconds = memory[_SECONDS_AT : _SECONDS_AT + 8].cast("d")

    def count(self, status: int, seconds: float) -> None:
        """Count a response of the application with this status, which took so many seconds."""
        self._classes[status // 100] += 1
        self._buckets[bisect_left(BUCKET_BOUNDS_SECONDS, seconds)] += 1
        self._seconds[0] += seconds

    def refused(self, status: int) -> None:
        """Count a response of appsrv's own; the application did not get the request."""
        self._classes[status // 100] += 1

    def read(self) -> Counts:
        """The counts so far."""
        return Counts(
            classes=self._classes.tolist(), buckets=self._buckets.tolist(), seconds=float(self._seconds[0])
        )
