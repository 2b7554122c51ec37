"""What a wait status says about how a process ended, in words; and, of SIGKILL, who sent it. Pure."""

from __future__ import annotations

import os
import signal
from typing import Protocol

# The reason of those that nobody has reaped for us.
UNSEEN = "nobody saw how"


class OutOfMemory(Protocol):
    """Who knows whether the kernel has killed for want of memory (`out_of_memory`)."""

    @property
    def known(self) -> bool: ...

    def claim(self, now: float) -> bool: ...


def cause_of_death(status: int) -> str:
    """`status` as waitpid(2) gives it: "exit code 3", "killed by SIGSEGV"."""
    if os.WIFSIGNALED(status):
        core = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"killed by {_signal_name(os.WTERMSIG(status))}{core}"
    return f"exit code {os.WEXITSTATUS(status)}"


def who_killed(status: int, reason: str, kernel: OutOfMemory, now: float) -> str:
    """As `cause_of_death`, but of a SIGKILL says whose it was. `reason`: ours, when we have sent one.

    `now` is `time.monotonic()`."""
    words = cause_of_death(status)
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        # It may have been quicker than our signal.
        if reason:
            return f"{words} ({reason})" if status else reason
        return words
    if reason:
        return f"killed by appsrv: {reason}"
    if kernel.claim(now):
        return "killed by the kernel, out of memory (SIGKILL)"
    return f"{words}, not by appsrv" + ("" if kernel.known else " (the kernel, out of memory, or a person)")


def kind_of(cause: str, reason: str) -> str:
    """One word for what `who_killed` says, of which there are few: `exit`, a signal's name, `out_of_memory`, `appsrv`.

    `appsrv`: one of its limits; `unknown`: nobody has seen how it ended.
    """
    if cause == UNSEEN:
        return "unknown"
    if reason:
        return "appsrv"
    if "(SIGKILL)" in cause:
        return "out_of_memory"
    words = cause.replace(",", " ").split()
    return words[2] if words[:2] == ["killed", "by"] else "exit"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
