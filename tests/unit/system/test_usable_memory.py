"""The memory that a process may use: of the machine, and of all its control groups."""

from __future__ import annotations

import pytest

from appsrv.system import usable_memory
from appsrv.system.usable_memory import usable

MEMINFO = "MemTotal:        2048000 kB\nMemFree:  1 kB\n"
TOTAL = 2048000 << 10
V1 = "12:pids:/a\n5:memory:/docker/x\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, TOTAL),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n"}, TOTAL),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/memory.max": "1000000\n"}, 1000000),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "5000\n"}, 5000),
        ({"/proc/self/cgroup": V1, "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "7000\n"}, 7000),
        ({"/proc/self/cgroup": V1, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, TOTAL),
        ({"/proc/meminfo": ""}, 0),
    ],
)
def test_usable(files: dict[str, str], expected: int) -> None:
    given = {"/proc/meminfo": MEMINFO, **files}
    assert usable(lambda path: given.get(path, "")) == expected


def test_of_another_process() -> None:
    files = {"/proc/7/cgroup": "0::/x\n", "/sys/fs/cgroup/x/memory.max": "9000\n", "/proc/meminfo": MEMINFO}
    assert usable(lambda path: files.get(path, ""), "7") == 9000
    assert usable_memory.of_process("self") >= 0
