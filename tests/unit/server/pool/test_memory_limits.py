"""memory_limits.py: which workers are too large, told with sizes that are made up; and one real size."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from appsrv.server.pool import memory_limits
from appsrv.server.pool.memory_limits import MemoryLimits
from appsrv.server.pool.pool import Load

MIB = 1 << 20


class Handle:
    def __init__(self, pid: int, processed: int) -> None:
        self.pid = pid
        self._processed = processed

    def load(self) -> Load:
        return Load(0, self._processed, 0.0)


class Crew(dict[int, Handle]):
    """Workers by serial number, who note what is done to them."""

    def __init__(self, sizes: dict[int, int], *, processed: int = 1) -> None:
        super().__init__({serial: Handle(serial * 100, processed) for serial in sizes})
        self.sizes = {serial * 100: size * MIB for serial, size in sizes.items()}
        self.killed: dict[int, str] = {}
        self.condemned: dict[int, str] = {}

    def kill(self, serial: int, reason: str) -> None:
        self.killed[serial] = reason

    def measure(self, pid: int, least: int) -> int:
        return self.sizes[pid] if self.sizes[pid] > least else 0

    def check(self, limit: int, hard: int, serving: set[int] | None = None) -> None:
        crew: Any = self
        found = set(self) if serving is None else serving
        MemoryLimits(
            limit * MIB, hard * MIB, crew, serving=lambda: found, condemn=self.condemned.__setitem__,
            measure=self.measure,
        ).check()


def test_above_the_limit_it_is_replaced_above_the_hard_one_killed() -> None:
    crew = Crew({1: 50, 2: 150, 3: 250})
    crew.check(100, 200)
    assert crew.condemned == {2: "it used 150M, above memory_limit (100M)"}
    assert crew.killed == {3: "it used 250M, above hard_memory_limit (200M)"}


def test_each_limit_works_alone() -> None:
    crew = Crew({1: 50, 2: 150})
    crew.check(100, 0)
    assert (list(crew.condemned), list(crew.killed)) == ([2], [])
    crew.check(0, 100)
    assert list(crew.killed) == [2]


def test_one_that_has_served_nothing_yet_is_not_replaced_by_one_as_large() -> None:
    crew = Crew({1: 150}, processed=0)
    crew.check(100, 0)
    assert crew.condemned == {}


def test_one_that_boots_or_leaves_is_not_replaced_but_may_be_killed() -> None:
    crew = Crew({1: 150, 2: 250})
    crew.check(100, 200, serving=set())
    assert (list(crew.condemned), list(crew.killed)) == ([], [2])


def test_sizes_of_real_processes() -> None:
    me = psutil.Process()
    used = memory_limits.share(me)
    assert 0 < used <= me.memory_info().rss * 1.1
    assert memory_limits.share_above(os.getpid(), 1) > 1
    assert memory_limits.share_above(os.getpid(), 1 << 50) == 0
    assert memory_limits.share_above(2**30, 1) == 0


@pytest.mark.process
def test_a_family_counts_as_one() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE):
        one, family = (measure(psutil.Process()) for measure in (memory_limits.share, memory_limits.family_share))
        assert family > one
        assert memory_limits.family_share_above(os.getpid(), one) > one
    assert memory_limits.family_share_above(os.getpid(), 1 << 50) == 0
