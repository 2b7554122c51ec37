"""Counts of what workers have answered: by class of status, and how long the application took (a histogram).

A worker's thread writes into shared memory, the server reads and adds up. Knows numbers only; what they are called is
`metrics`' business. One writer per tally, and no lock: each number is of eight bytes, and written at once.

    classes u64 * 10 (by the first digit of the status) · buckets u64 * 15 · seconds f64
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

TALLY_BYTES = 256
# Upper bounds of the buckets in seconds; one bucket more is for what took longer.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CLASSES = 10
_BUCKETS = len(BOUNDS) + 1
_SECONDS_AT = 8 * (_CLASSES + _BUCKETS)


@dataclass
class Counts:
    """Sums over workers. `requests` and `busy` (seconds with a connection) are known whether or not there is a tally.

    `classes[n]`: answers with a status of n00 to n99. `buckets[n]`: requests that took at most `BOUNDS[n]` and more
    than the bound before; `seconds`: what those took together.
    """

    requests: int = 0
    busy: float = 0.0
    classes: list[int] = field(default_factory=lambda: [0] * _CLASSES)
    buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    seconds: float = 0.0

    def add(self, other: Counts) -> None:
        """Count those, too."""
        self.requests += other.requests
        self.busy += other.busy
        self.classes = [a + b for a, b in zip(self.classes, other.classes, strict=True)]
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds


def total(parts: Iterable[Counts]) -> Counts:
    """All of them together."""
    whole = Counts()
    for part in parts:
        whole.add(part)
    return whole


class Tally:
    """One thread's counts, in `TALLY_BYTES` of shared memory."""

    __slots__ = ("_buckets", "_classes", "_seconds")

    def __init__(self, memory: memoryview) -> None:
        self._classes = memory[: 8 * _CLASSES].cast("Q")
        self._buckets = memory[8 * _CLASSES : _SECONDS_AT].cast("Q")
        self._seconds = memory[_SECONDS_AT : _SECONDS_AT + 8].cast("d")

    def count(self, status: int, seconds: float) -> None:
        """The application has answered with this status and has taken this long."""
        self._classes[status // 100] += 1
        self._buckets[bisect_left(BOUNDS, seconds)] += 1
        self._seconds[0] += seconds

    def refused(self, status: int) -> None:
        """A request that reached no application was answered with this status."""
        self._classes[status // 100] += 1

    def read(self) -> Counts:
        """What has been counted so far."""
        return Counts(
            classes=self._classes.tolist(), buckets=self._buckets.tolist(), seconds=float(self._seconds[0])
        )
