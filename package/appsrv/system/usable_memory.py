"""The memory that a process and its children may use: that of the machine, limited by the control group.

Pure except `of_process`, which reads /proc/meminfo (proc(5)) and `memory.max` or `memory.limit_in_bytes`.
"""

from __future__ import annotations

import re

from appsrv.system import cgroups
from appsrv.system.cgroups import Read

_TOTAL = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def usable(read: Read, process: str = "self") -> int:
    """The number of bytes; 0 if it cannot be told. `read(path)` returns the content of a file, "" without one."""
    total = _TOTAL.search(read("/proc/meminfo"))
    limits = [int(total[1]) << 10] if total else []
    for group in cgroups.of_process(process, "memory", read):
        file = "memory.max" if group.version == 2 else "memory.limit_in_bytes"
        # Without a limit the value is `max` (v2) or a number near 2**63 (v1).
        limit = read(f"{group.directory}/{file}").strip()
        if limit.isdigit():
            limits.append(int(limit))
    return min(limits, default=0)


def of_process(process: str) -> int:
    """The number of bytes for this process (its pid, or `self`)."""
    return usable(cgroups.content, process)
