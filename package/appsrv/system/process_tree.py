"""The processes below the watchdog, as the kernel knows them: whose parent it is, and whom it may signal.

Knows pids, not what the processes are for; `ours` tells appsrv's own from those that the application has started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Workers whose preloader has gone become our children (prctl(2), Linux); elsewhere init has them."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def own_processes() -> list[int]:
    """The workers below this process; what the application has started itself is the application's."""
    return [pid for pid in descendants(os.getpid()) if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    return title(pid).startswith("appsrv worker")


def descendants(pid: int) -> list[int]:
    """All processes below this one, children first."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    return []


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is this one or one of its descendants."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return ancestor in (pid, *(parent.pid for parent in psutil.Process(pid).parents()))
    return False


def title(pid: int) -> str:
    """What `ps` shows as the command."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline()).strip()
    return ""


def exists(pid: int) -> bool:
    """Whether there is such a process, of whichever user; one that has ended counts until it is reaped."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # The kernel looks for the process first, and for the permission to signal it then (kill(2)).
        return True
    return True


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
