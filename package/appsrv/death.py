"""What a wait status says about how a process ended, in words. Pure."""

from __future__ import annotations

import os
import signal


def cause_of_death(status: int) -> str:
    """`status` as waitpid(2) gives it: "exit code 3", "killed by SIGSEGV"."""
    if os.WIFSIGNALED(status):
        core = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"killed by {_signal_name(os.WTERMSIG(status))}{core}"
    return f"exit code {os.WEXITSTATUS(status)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
