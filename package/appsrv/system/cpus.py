"""The number of processors that this process may use: its affinity, limited by the CPU quota of its cgroup.

Pure except `of_this_process`, which reads the system's files: `cpu.max` of cgroup v2, and `cpu.cfs_quota_us` and
`cpu.cfs_period_us` of v1 (the kernel's Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from appsrv.system import cgroups
from appsrv.system.cgroups import Read


def allowed(processors: int, read: Read) -> int:
    """The number of processors, at least 1, if `processors` are in the affinity. A fraction of a quota is rounded up.

    `read(path)` returns the content of a file, "" if it does not exist.
    """
    quotas = list(_quotas(read))
    return max(1, min([processors, *(math.ceil(quota) for quota in quotas)]))


def of_this_process() -> int:
    """The number of processors of the calling process."""
    affinity = getattr(os, "sched_getaffinity", None)
    return allowed(len(affinity(0)) if affinity else os.cpu_count() or 1, cgroups.content)


def workers_for(processors: int, *, several_at_a_time: bool) -> int:
    """The number of workers that use these processors fully.

    If a worker serves several requests at a time: one worker per processor. Otherwise two per processor and one more,
    because a worker that waits for a database leaves its processor idle.
    """
    return processors if several_at_a_time else 2 * processors + 1


def _quotas(read: Read) -> Iterator[float]:
    """The quotas, in processors, of the process's own cgroup and of its ancestors: all of them apply."""
    for group in cgroups.of_process("self", "cpu", read):
        if group.version == 2:
            yield from _version_2(read(f"{group.directory}/cpu.max"))
        else:
            yield from _version_1(
                read(f"{group.directory}/cpu.cfs_quota_us"), read(f"{group.directory}/cpu.cfs_period_us")
            )


def _version_2(content: str) -> Iterator[float]:
    quota, _, period = content.strip().partition(" ")
    yield from _version_1(quota, period)


def _version_1(quota: str, period: str) -> Iterator[float]:
    # Without a quota the value is `max` (v2) or -1 (v1).
    if quota.strip().isdigit() and period.strip().isdigit() and int(period):
        yield int(quota) / int(period)
