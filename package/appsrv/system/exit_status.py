"""Describes a wait status (waitpid(2)) in words, and for SIGKILL also the sender. Pure."""

from __future__ import annotations

import os
import signal
from typing import Protocol

# The cause of death of a process whose status appsrv did not get, because it was not reaped by appsrv.
UNSEEN = "exit status unknown"


class OutOfMemory(Protocol):
    """The part of `OutOfMemoryKills` that is needed here."""

    @property
    def known(self) -> bool: ...

    def claim(self, now: float) -> bool: ...


def cause_of_death(status: int) -> str:
    """The text for a status of waitpid(2): "exit code 3", "killed by SIGSEGV"."""
    if os.WIFSIGNALED(status):
        core = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"killed by {_signal_name(os.WTERMSIG(status))}{core}"
    return f"exit code {os.WEXITSTATUS(status)}"


def attributed_cause(status: int, reason: str, kernel: OutOfMemory, now: float) -> str:
    """As `cause_of_death`, but names the sender of a SIGKILL.

    `reason`: why appsrv has sent a signal to the process, "" if it has not. `now` is `time.monotonic()`.
    """
    words = cause_of_death(status)
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        # The process may have ended by itself just before appsrv's signal arrived.
        if reason:
            return f"{words} ({reason})" if status else reason
        return words
    if reason:
        return f"killed by appsrv: {reason}"
    if kernel.claim(now):
        return "killed by the kernel, out of memory (SIGKILL)"
    return f"{words}, not by appsrv" + ("" if kernel.known else " (the kernel, out of memory, or a person)")


def kind_of(cause: str, reason: str) -> str:
    """The kind of a cause that `attributed_cause` has described: `exit`, a signal's name, `out_of_memory`, `appsrv`.

    `appsrv`: appsrv ended it because of a limit. `unknown`: its status is not known.
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
