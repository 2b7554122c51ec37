"""Process groups (setpgid(2)): a worker of a generic application leads one, with all processes that it starts.

The process that reaps the worker can then end the rest with one signal, grandchildren included. Knows pids only.
"""

from __future__ import annotations

import contextlib
import os
import signal


def lead() -> None:
    """Make this process the leader of a new group. Its future children belong to the group."""
    os.setpgid(0, 0)


def kill_rest(leader: int) -> None:
    """Kill the other processes of the group whose leader has ended. Does nothing if there is no such group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def others(leader: int) -> list[int]:
    """The pids of the group without its leader."""
    found = []
    for pid in _all_pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid != leader and os.getpgid(pid) == leader:
                found.append(pid)
    return found


def _all_pids() -> list[int]:
    if os.path.isdir("/proc/self"):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    import psutil

    return list(psutil.pids())
