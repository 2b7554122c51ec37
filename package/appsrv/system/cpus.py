"""How many processors this process may use: those it may run on, less what the cgroup of a container grants.

Pure but for `of_this_process`, which says where to look: cgroup-v2's `cpu.max`, and `cpu.cfs_quota_us` beside
`cpu.cfs_period_us` of version 1 (Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst of the kernel).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

Read = Callable[[str], str]
ROOT = "/sys/fs/cgroup"


def allowed(processors: int, read: Read) -> int:
    """At least 1. `read(path)` gives a file's content, "" when there is none; a part of a processor counts as one."""
    quotas = list(_quotas(read))
    return max(1, min([processors, *(math.ceil(quota) for quota in quotas)]))


def of_this_process() -> int:
    """The same for the process that asks."""
    affinity = getattr(os, "sched_getaffinity", None)
    return allowed(len(affinity(0)) if affinity else os.cpu_count() or 1, _content)


def workers_for(processors: int, *, several_at_a_time: bool) -> int:
    """How many workers keep so many processors busy: one each where a worker serves several requests at a time.

    Else two each and one more, since a worker that waits for a database leaves its processor idle.
    """
    return processors if several_at_a_time else 2 * processors + 1


def _quotas(read: Read) -> Iterator[float]:
    """The quota of the process's own group and of every one above: each of them holds."""
    for line in read("/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for group in _upwards(path):
                yield from _version_2(read(f"{ROOT}{group}/cpu.max"))
        elif "cpu" in controllers.split(","):
            for group in _upwards(path):
                base = f"{ROOT}/{controllers}{group}"
                yield from _version_1(read(f"{base}/cpu.cfs_quota_us"), read(f"{base}/cpu.cfs_period_us"))


def _upwards(path: str) -> Iterator[str]:
    """`/a/b`, `/a` and the root, which is written as nothing."""
    here = PurePosixPath("/") / path.lstrip("/")
    for group in (here, *here.parents):
        yield "" if str(group) == "/" else str(group)


def _version_2(content: str) -> Iterator[float]:
    quota, _, period = content.strip().partition(" ")
    yield from _version_1(quota, period)


def _version_1(quota: str, period: str) -> Iterator[float]:
    # No quota is written `max` or -1.
    if quota.strip().isdigit() and period.strip().isdigit() and int(period):
        yield int(quota) / int(period)


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
