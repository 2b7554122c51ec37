"""process_tree.py: whether a process exists, and signals to one that may have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from appsrv.system import process_tree


@pytest.mark.parametrize(
    ("error", "there"),
    [(None, True), (PermissionError(), True), (ProcessLookupError(), False)],
    ids=["may be signalled", "of another user", "none"],
)
def test_a_process_of_another_user_exists(
    monkeypatch: pytest.MonkeyPatch, error: OSError | None, *, there: bool
) -> None:
    asked: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        asked.append((pid, number))
        if error is not None:
            raise error

    monkeypatch.setattr(os, "kill", kill)
    assert process_tree.exists(42) is there
    assert asked == [(42, 0)]


def test_what_is_no_pid_is_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # kill(2) would take 0 for the caller's own process group, and -1 for every process.
    monkeypatch.setattr(os, "kill", pytest.fail)
    assert [process_tree.exists(pid) for pid in (0, -1)] == [False, False]


@pytest.mark.process
def test_a_process_exists_until_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_tree.exists(child.pid)
    child.wait()
    assert not process_tree.exists(child.pid)
    process_tree.send_signal(child.pid, signal.SIGTERM)
