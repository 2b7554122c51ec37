"""exit_status.py: wait statuses of real processes, in words."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appsrv.system.exit_status import attributed_cause, cause_of_death
from appsrv.system.oom_kills import CLAIM_WITHIN_SECONDS, OutOfMemoryKills


def status_of(code: str) -> int:
    """The wait status of a process that has run this."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return done.returncode << 8 if done.returncode >= 0 else -done.returncode


@pytest.mark.process
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


class Cgroup:
    """The files of a control group, and the kernel's hand on its counter."""

    def __init__(self, place: Path, line: str, file: str) -> None:
        self.proc, self.mount = place / "proc", place / "cgroup"
        self.counter = self.mount / file
        self.proc.mkdir()
        (self.proc / "cgroup").write_text(f"3:cpuset:/\n{line}\n")
        self.counter.parent.mkdir(parents=True)
        self.kills(2)

    def kills(self, number: int) -> None:
        self.counter.write_text(f"low 0\noom 7\noom_kill {number}\noom_group_kill 0\n")

    def reader(self) -> OutOfMemoryKills:
        return OutOfMemoryKills(self.proc, self.mount)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/system.slice/shop.service", "system.slice/shop.service/memory.events"),
        ("0::/docker/1f0c", "memory.events"),
        ("4:memory:/docker/1f0c", "memory/docker/1f0c/memory.oom_control"),
        ("4:cpu,memory:/docker/1f0c", "memory/memory.oom_control"),
    ],
    ids=["v2", "v2-container", "v1", "v1-container"],
)
def test_the_kernel_s_kills_are_each_claimed_once(tmp_path: Path, line: str, file: str) -> None:
    group = Cgroup(tmp_path, line, file)
    reader = group.reader()
    assert reader.known
    assert not reader.claim(1.0), "those before this process was there are not ours"
    group.kills(4)
    assert [reader.claim(2.0), reader.claim(2.0), reader.claim(2.0)] == [True, True, False]


@pytest.mark.parametrize("content", [None, "", "nonsense", "oom_kill many"])
def test_a_system_that_does_not_count(tmp_path: Path, content: str | None) -> None:
    group = Cgroup(tmp_path, "0::/", "memory.events")
    group.counter.unlink() if content is None else group.counter.write_text(content)
    assert not group.reader().known
    assert not group.reader().claim(1.0)
    assert not OutOfMemoryKills(tmp_path / "nowhere", tmp_path).known


def test_who_killed(tmp_path: Path) -> None:
    group = Cgroup(tmp_path, "0::/", "memory.events")
    kernel = group.reader()
    assert attributed_cause(signal.SIGKILL, "stop_timeout of 5 s is over", kernel, 1.0) == (
        "killed by appsrv: stop_timeout of 5 s is over"
    )
    assert attributed_cause(signal.SIGKILL, "", kernel, 1.0) == "killed by SIGKILL, not by appsrv"
    group.kills(3)
    assert attributed_cause(signal.SIGSEGV, "", kernel, 1.0) == "killed by SIGSEGV"
    assert attributed_cause(signal.SIGKILL, "", kernel, 1.0) == "killed by the kernel, out of memory (SIGKILL)"
    assert attributed_cause(signal.SIGKILL, "", kernel, 1.0) == "killed by SIGKILL, not by appsrv"
    assert attributed_cause(3 << 8, "memory_limit", kernel, 1.0) == "exit code 3 (memory_limit)"
    assert attributed_cause(0, "the health check failed", kernel, 1.0) == "the health check failed"
    group.counter.unlink()
    assert "kernel, out of memory, or a person" in attributed_cause(signal.SIGKILL, "", group.reader(), 1.0)


def test_a_kill_that_nobody_claims_is_forgotten(tmp_path: Path) -> None:
    """The victim may have been a child of the application."""
    group = Cgroup(tmp_path, "0::/", "memory.events")
    kernel = group.reader()
    group.kills(3)
    kernel.update(100.0)
    assert not kernel.claim(100.0 + CLAIM_WITHIN_SECONDS + 1)
    group.kills(4)
    kernel.update(200.0)
    kernel.forget()
    assert not kernel.claim(200.0)
    group.kills(5)
    kernel.update(300.0)
    assert kernel.claim(300.0 + CLAIM_WITHIN_SECONDS - 1), "a large process takes its time to end"
