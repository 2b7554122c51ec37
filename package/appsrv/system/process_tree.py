"""The process tree below the watchdog, as the kernel has it: descendants, titles, existence, signals.

Knows pids. `own_processes` distinguishes appsrv's workers from processes of the application by their titles.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make this process the new parent of orphaned descendants, such as workers whose preloader has ended.

    Linux only (PR_SET_CHILD_SUBREAPER in prctl(2)); on other systems init(8) is their new parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def own_processes() -> list[int]:
    """The pids of the workers below this process, without the processes that the application has started."""
    return [pid for pid in descendants(os.getpid()) if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    return title(pid).startswith("appsrv worker")


def descendants(pid: int) -> list[int]:
    """The pids of all descendants of this process, children first."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    return []


def is_below(pid: int, ancestor: int) -> bool:
    """Whether `pid` is `ancestor` or one of its descendants."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return ancestor in (pid, *(parent.pid for parent in psutil.Process(pid).parents()))
    return False


def title(pid: int) -> str:
    """The command line that ps(1) shows; empty if there is no such process."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline()).strip()
    return ""


def exists(pid: int) -> bool:
    """Whether there is such a process, of any user. A process that has ended exists until it is reaped."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # EPERM: the process exists and belongs to another user. The kernel looks for the process first (ESRCH) and
        # checks the permission to signal it afterwards (kill(2)).
        return True
    return True


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process. Does nothing if the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
