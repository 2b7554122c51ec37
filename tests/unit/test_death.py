"""death.py: wait statuses of real processes, in words."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from appsrv.death import cause_of_death


def status_of(code: str) -> int:
    """The wait status of a process that has run this."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return done.returncode << 8 if done.returncode >= 0 else -done.returncode


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "exit code 0"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ],
)
def test_real_deaths(code: str, words: str) -> None:
    assert cause_of_death(status_of(code)) == words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (signal.SIGSEGV, "killed by SIGSEGV"),
        (signal.SIGSEGV | 0x80, "killed by SIGSEGV (core dumped)"),
        (40, "killed by signal 40"),
        (255 << 8, "exit code 255"),
    ],
)
def test_other_statuses(status: int, words: str) -> None:
    assert cause_of_death(status) == words
