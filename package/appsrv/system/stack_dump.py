"""Reads the stacks of a running process without stopping it: `listen` in that process, `ask` in any other one.

faulthandler writes the stacks from a signal handler in C, which needs neither the interpreter's lock nor its
cooperation: it works in a process that hangs in C code or in a system call, and the call continues afterwards. All
processes of an instance write into one file of the run directory; the asking process locks it. Knows processes and
stacks, not requests.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import re
import signal
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from appsrv.errors import AdminError
from appsrv.system import own_frames
from appsrv.system.words import printable

FILE = "stacks"
# A real-time signal that hardly any application uses, or SIGUSR2 on systems without real-time signals.
SIGNAL: int = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
# Asks a worker of the concurrency model gevent to write the stacks of all its greenlets to stderr: SIGNAL shows only
# the running greenlet. 0 on systems without real-time signals.
GREENLETS_SIGNAL: int = SIGNAL - 1 if hasattr(signal, "SIGRTMAX") else 0
ANSWER_SECONDS = 3.0
POLL_INTERVAL_SECONDS = 0.005
# On systems where /proc does not show whether the handler is running, an answer that has not grown for this time is
# complete.
UNCHANGED_SECONDS = 0.05
_BIT = 1 << (SIGNAL - 1)
_THREAD = re.compile(r"(Current thread|Thread) (0x[0-9a-f]+)(?: \[(.*)\])? \(most recent call first\):")
_FRAME = re.compile(r'  File (?:"(.*)"|\?+), line (\d+|\?+) in (.*)')

Sleep = Callable[[float], None]


@dataclass(frozen=True)
class Frame:
    """One call. `line` is 0 if it is not known."""

    file: str
    line: int
    function: str


@dataclass(frozen=True)
class Thread:
    """One Python thread. `frames` has the most recent call last. `current`: the thread in which the handler has run."""

    ident: str
    name: str
    current: bool
    frames: list[Frame] = field(default_factory=list)


# -- in the process that is asked -------------------------------------------------------------------------------------


def listen(directory: str | Path) -> None:
    """Have this process, and all processes that it forks, write their stacks. `directory` is the run directory."""
    # The file stays open until the process ends: the handler has only its number.
    file = _open(directory, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    faulthandler.register(SIGNAL, file=file, all_threads=True, chain=False)


def _open(directory: str | Path, flags: int) -> int:
    """Open the file of the answers. If the run directory is missing, /dev/null: the process runs without this feature.
    """
    try:
        return os.open(Path(directory, FILE), flags | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


# -- in the process that asks -----------------------------------------------------------------------------------------


def open_answers(directory: Path | str) -> int:
    """A descriptor for `ask` in a process that will drop its privileges and then cannot open the run directory."""
    return _open(directory, os.O_RDWR)


def ask(
    directory: Path | int, pid: int, *, sleep: Sleep = time.sleep, timeout: float = ANSWER_SECONDS
) -> list[Thread]:
    """The stacks of the process's threads, the main thread first. Raises AdminError with the reason.

    `directory` is the run directory of the process's instance, or the result of `open_answers`. `sleep` is called to
    wait; `timeout` is in seconds.
    """
    deadline = time.monotonic() + timeout
    with _answers(directory, deadline, sleep) as file:
        while True:
            os.ftruncate(file, 0)
            _signal_and_wait(file, pid, deadline, sleep)
            threads = parse(_content(file))
            # A process that did not answer an earlier `ask` in time may have written into the file now. Then there are
            # several current threads, or more threads than the process has: ask again.
            mixed = sum(thread.current for thread in threads) != 1 or len(threads) > _most_threads(pid)
            if not mixed or time.monotonic() > deadline:
                return threads


@contextlib.contextmanager
def _answers(directory: Path | int, deadline: float, sleep: Sleep) -> Iterator[int]:
    file = directory if isinstance(directory, int) else _opened(directory)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise AdminError("the run directory was missing when this process started")
    try:
        while not _locked(file):
            if time.monotonic() > deadline:
                raise AdminError("another process of this instance is being traced: try again")
            sleep(POLL_INTERVAL_SECONDS)
        try:
            yield file
        finally:
            _in_use.discard(file)
            fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        if file != directory:
            os.close(file)


def _opened(directory: Path) -> int:
    try:
        return os.open(Path(directory, FILE), os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise AdminError(f"{directory / FILE} cannot be used: {error.strerror}") from None


# flock(2) locks belong to the open file description: it does not exclude two greenlets that use one descriptor. This
# set does.
_in_use: set[int] = set()


def _locked(file: int) -> bool:
    if file in _in_use:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    _in_use.add(file)
    return True


def _signal_and_wait(file: int, pid: int, deadline: float, sleep: Sleep) -> None:
    if not _catches(pid):
        raise AdminError(f"process {pid} cannot be traced: it is just starting, or not one of appsrv's own")
    before = set(_in_handler(pid))
    try:
        os.kill(pid, SIGNAL)
    except OSError as error:
        raise AdminError(f"process {pid} cannot be traced: {error.strerror}") from None
    while not _answered(file, pid, before, sleep):
        if time.monotonic() > deadline:
            raise AdminError(f"process {pid} does not answer: {_why_silent(pid)}")
        sleep(POLL_INTERVAL_SECONDS)


def _answered(file: int, pid: int, before: set[int], sleep: Sleep) -> bool:
    """Whether the process has written its stacks and its handler has returned.

    While the handler runs, its signal is blocked in that thread, which /proc shows.
    """
    size = os.fstat(file).st_size
    if not size:
        return False
    if os.path.isdir("/proc/self/task"):
        return not _pending(pid) and not set(_in_handler(pid)) - before
    sleep(UNCHANGED_SECONDS)
    return os.fstat(file).st_size == size


def _content(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "backslashreplace")


# -- the state of a process in /proc (proc(5), Linux only) ------------------------------------------------------------


def _masks(place: str) -> dict[str, int]:
    try:
        lines = Path(place, "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in lines if line.startswith(("Sig", "Shd")) and not line.startswith("SigQ"))
    return {name: int(mask, 16) for name, mask in fields}


def _most_threads(pid: int) -> float:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return float("inf")


def _catches(pid: int) -> bool:
    return bool(_masks(f"/proc/{pid}").get("SigCgt", _BIT if not os.path.isdir("/proc/self") else 0) & _BIT)


def shows_greenlets(pid: int) -> bool:
    """Whether the process handles GREENLETS_SIGNAL. The signal would end any other process."""
    if not GREENLETS_SIGNAL:
        return False
    known = _masks(f"/proc/{pid}").get("SigCgt", -1 if not os.path.isdir("/proc/self") else 0)
    return bool(known & (1 << (GREENLETS_SIGNAL - 1)))


def _pending(pid: int) -> bool:
    masks = _masks(f"/proc/{pid}")
    return bool((masks.get("SigPnd", 0) | masks.get("ShdPnd", 0)) & _BIT)


def _in_handler(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            if _masks(f"/proc/{pid}/task/{task}").get("SigBlk", 0) & _BIT:
                yield int(task)


_SILENT = {
    "T": "it is stopped (SIGSTOP; kill -CONT continues it)",
    "t": "a debugger holds it",
    "D": "it is in a system call that cannot be interrupted, as a disk or a network file system that hangs",
    "Z": "it has ended",
}


def _why_silent(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "it has ended"
    return _SILENT.get(state, f"it blocks signal {SIGNAL}, or has another handler for it")


# -- what concerns the application ------------------------------------------------------------------------------------

def of_application(threads: Sequence[Thread]) -> list[Thread]:
    """The threads that answer requests, from where the application begins, and those that it has started itself."""
    return [replace(thread, frames=frames) for thread in threads if (frames := _application_frames(thread.frames))]


def _application_frames(frames: list[Frame]) -> list[Frame]:
    own = [number for number, frame in enumerate(frames) if own_frames.is_own(frame.file)]
    if not own:
        return frames
    calls = [number for number in own if frames[number].file == own_frames.CALLS_APPLICATION]
    return frames[calls[-1] + 1 :] if calls else []


# -- what faulthandler writes -----------------------------------------------------------------------------------------


def parse(content: str) -> list[Thread]:
    """The threads in what faulthandler wrote, which begins with the youngest and ends with the main thread."""
    threads: list[Thread] = []
    for line in content.splitlines():
        thread, frame = _THREAD.match(line), _FRAME.match(line)
        if thread is not None:
            threads.append(Thread(thread[2], thread[3] or "", thread[1] == "Current thread"))
        elif frame is not None and threads:
            number = int(frame[2]) if frame[2].isdigit() else 0
            threads[-1].frames.insert(0, Frame(frame[1] or "?", number, frame[3]))
    return threads[::-1]


# -- for people -------------------------------------------------------------------------------------------------------


def as_text(threads: Sequence[Thread], source: Callable[[str, int], str]) -> Iterator[str]:
    """Lines as of a Python traceback, each thread's most recent call last; `source` gives a line of a file, or ""."""
    for number, thread in enumerate(threads):
        name = printable(thread.name) or ("main thread" if number == 0 else "thread")
        yield ""
        yield f"{name} {thread.ident} (most recent call last):"
        for frame in thread.frames:
            yield printable(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
            code = source(frame.file, frame.line).strip()
            if code:
                yield printable(f"    {code}")
        if not thread.frames:
            yield "  (no frame of Python)"
