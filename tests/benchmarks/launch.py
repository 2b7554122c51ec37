"""A server under measurement: started in a session of its own, waited for, weighed, and ended whole."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import LoadFailed, get

MARK = "BENCHMARK_SCRATCH"
START_SECONDS = 30.0
STOP_SECONDS = 10.0


class StartFailed(Exception):
    """The server ended, or did not answer in time; the message is the end of what it printed."""


@dataclass
class Running:
    """A server that has answered. `first_answer` is milliseconds since the command was started."""

    port: int
    session: int
    first_answer: float
    scratch: Path

    def pss(self) -> float:
        """Proportional set size of the whole tree, in MiB: shared pages are counted once."""
        return sum(_pss(process) for process in _tree(self.session, self.scratch)) / 2**20

    def cpu_seconds(self) -> float:
        """Processor time that the processes which live now have taken so far, in user and kernel mode."""
        return sum(_cpu(process) for process in _tree(self.session, self.scratch))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def scratch_directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="appsrv-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(
    command: Sequence[str], directory: Path, port: int, scratch: Path, environment: Mapping[str, str]
) -> Iterator[Running]:
    """Start, wait for the first answer, yield, end every process of it."""
    output = scratch / "output.txt"
    with output.open("wb") as stream:
        variables = {"XDG_RUNTIME_DIR": str(scratch), "PYTHONPATH": str(directory), MARK: str(scratch)}
        started = time.monotonic()
        child = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **variables, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        passed = _wait_answer(child, port, started, output)
        yield Running(port, child.pid, passed, scratch)
    finally:
        _end(child, scratch)


def _wait_answer(child: subprocess.Popen[bytes], port: int, started: float, output: Path) -> float:
    while time.monotonic() < started + START_SECONDS:
        if child.poll() is not None:
            raise StartFailed(f"ended with {child.returncode}: {_tail(output)}")
        try:
            get(port)
        except (OSError, LoadFailed):
            time.sleep(0.005)
        else:
            return (time.monotonic() - started) * 1000
    raise StartFailed(f"no answer within {START_SECONDS:g} s: {_tail(output)}")


def _tail(output: Path) -> str:
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _tree(leader: int, scratch: Path) -> list[psutil.Process]:
    """Everything started for a run: in the session of its first process, or with the scratch directory in the
    environment. Each may miss some: Passenger leaves the session, others write over their environment.
    """
    return [p for p in psutil.process_iter() if _session(p.pid) == leader or _names(p, scratch)]


def _names(process: psutil.Process, scratch: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(scratch)
    except psutil.Error:
        return False


def _end(child: subprocess.Popen[bytes], scratch: Path) -> None:
    """Ask politely, then kill whatever is left."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for process in _tree(child.pid, scratch):
        _kill(process)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(STOP_SECONDS)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        return


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _pss(process: psutil.Process) -> int:
    try:
        weight: int = process.memory_full_info().pss
    except psutil.Error:
        return 0
    return weight
