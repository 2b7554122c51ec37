"""The pid file: tells other programs whom to signal. That an instance is alive, its lock says, not this file.

Written and removed by the watchdog only. Knows no instance and no settings.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from appsrv.errors import AlreadyRunning, RunDirectoryError


def read(path: Path) -> int | None:
    """The process id in that file; None when there is no file or no number in it."""
    try:
        return _number(path.read_bytes()[:32])
    except OSError:
        return None


def write(path: Path, pid: int) -> None:
    """Writes `pid`, over that of a dead instance if need be.

    Raises AlreadyRunning when the file names a living appsrv, RunDirectoryError when it cannot be written or
    holds something else than a process id.
    """
    try:
        with _locked(path) as file:
            _refuse_if_used(path, os.pread(file, 64, 0), pid)
            os.ftruncate(file, 0)
            os.pwrite(file, f"{pid}\n".encode(), 0)
    except OSError as error:
        raise RunDirectoryError(f"pid file {path} cannot be written: {error.strerror}") from None


def remove(path: Path, pid: int) -> None:
    """Removes the file if it still names `pid`; one that another instance has taken over stays."""
    if read(path) == pid:
        with contextlib.suppress(OSError):
            path.unlink()


def is_appsrv(pid: int) -> bool:
    """Whether that process lives and is one of ours; a number may have gone to another program meanwhile."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        return b"appsrv" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not os.path.isdir("/proc/self")  # no /proc on this system: alive has to do


def stale(directory: Path) -> Path | None:
    """A pid file in its usual places under `directory` whose process is gone."""
    places = (*directory.glob("tmp/pids/appsrv*.pid"), *directory.glob("appsrv*.pid"))
    return next((path for path in sorted(places) if is_stale(path)), None)


def is_stale(path: Path) -> bool:
    """Whether the file is there and its process is not."""
    pid = read(path)
    return path.is_file() and (pid is None or not is_appsrv(pid))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Locked while it is looked at and rewritten: of two starts at the same time one sees the other's pid."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _refuse_if_used(path: Path, content: bytes, own: int) -> None:
    pid = _number(content)
    if pid is None and content.strip():
        raise RunDirectoryError(f"{path} is not a pid file: it is left as it is, name another one")
    # In a container every start has the same pid: then the old one is certainly not alive.
    if pid is not None and pid not in (own, os.getpid()) and is_appsrv(pid):
        raise AlreadyRunning(f"appsrv is already running on PID {pid}.", pid)


def _number(content: bytes) -> int | None:
    text = content.strip()
    return int(text) if text.isdigit() and 0 < len(text) <= 10 and int(text) > 0 else None
