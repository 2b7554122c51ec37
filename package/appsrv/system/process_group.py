"""The processes of one group: what is left of a worker and of all that its application has started.

A worker of a generic application leads a group of its own, so that whoever reaps it can end the rest with one signal,
grandchildren included. Knows numbers of processes only.
"""

from __future__ import annotations

import contextlib
import os
import signal


def lead() -> None:
    """This process leads a new group from now on; its children are born into it."""
    os.setpgid(0, 0)


def kill_rest(leader: int) -> None:
    """The leader has ended: end what is left of its group. Nothing happens where it has led none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def others(leader: int) -> list[int]:
    """The processes in the group beside its leader."""
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
