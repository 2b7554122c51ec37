"""The pid file: it tells other programs which process to signal. The watchdog keeps it locked as long as it lives.

The lock (flock(2)), never the number, tells whether an instance uses the file: after a crash, a reboot or in a
container the number may belong to any process. Knows no instance and no settings.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Collection
from pathlib import Path

from appsrv.errors import AlreadyRunning, RunDirectoryError
from appsrv.system.process_tree import exists

LOCK_WAIT_SECONDS = 0.5
"""A command that looks whether the file is in use locks it for a moment, which is no reason to refuse a start."""

POLL_INTERVAL_SECONDS = 0.01

MAX_PID_FILE_BYTES = 4096
"""A larger file was never a pid file, whatever its name."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What flock(2) answers on a file system without locks: there only `users` of `take` keep two instances apart."""


class PidFile:
    """The pid file of this process. `notice` names what was taken over with it, if anything."""

    def __init__(self, path: Path, pid: int, fd: int, notice: str) -> None:
        self.path = path
        self.notice = notice
        self._pid = pid
        self._fd = fd

    @classmethod
    def take(cls, path: Path, pid: int, users: Collection[int] = ()) -> PidFile:
        """Writes `pid` into the file, over the number that a dead instance left.

        `users` are the pids of running instances with this pid file: on a file system without locks they hold none.
        Raises AlreadyRunning, and RunDirectoryError when the file cannot be
        written or holds something else than a process id.
        """
        try:
            fd = _lock(path)
        except OSError as error:
            raise RunDirectoryError(f"pid file {path} cannot be written: {error.strerror}") from None
        try:
            notice = _taken_over(path, os.pread(fd, MAX_PID_FILE_BYTES + 1, 0), pid, users)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{pid}\n".encode(), 0)
        except OSError as error:
            os.close(fd)
            raise RunDirectoryError(f"pid file {path} cannot be written: {error.strerror}") from None
        except BaseException:
            os.close(fd)
            raise
        return cls(path, pid, fd, notice)

    def remove(self) -> None:
        """Removes the file if it still names this process, and then lets go of the lock."""
        if self._fd < 0:
            return
        # In this order: a start that gets the lock of the removed file sees that, and makes a new one.
        if read(self.path) == self._pid:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._fd)
        self._fd = -1


def read(path: Path) -> int | None:
    """The process id in that file; None when there is no file or no number in it."""
    try:
        return _number(path.read_bytes()[:32])
    except OSError:
        return None


def stale(directory: Path) -> Path | None:
    """A pid file in its usual places under `directory` that no instance uses."""
    places = (*directory.glob("tmp/pids/appsrv*.pid"), *directory.glob("appsrv*.pid"))
    return next((path for path in sorted(places) if is_stale(path)), None)


def is_stale(path: Path) -> bool:
    """Whether the file is there and no instance uses it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        # Another user's file: its process has to do.
        pid = read(path)
        return path.is_file() and (pid is None or not exists(pid))
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pid = read(path)
        return pid is None or not exists(pid)
    finally:
        os.close(fd)
    return path.is_file()


def _lock(path: Path) -> int:
    """The open file with its lock; AlreadyRunning when another process keeps it locked."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        if _try_lock(fd, path):
            return fd
        os.close(fd)
        if time.monotonic() > deadline:
            pid = read(path)
            raise AlreadyRunning(f"appsrv is already running on PID {pid or '(unknown)'}.", pid)
        time.sleep(POLL_INTERVAL_SECONDS)


def _try_lock(fd: int, path: Path) -> bool:
    """Whether this process has the lock now, and of the file that is there, not of one removed meanwhile."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _taken_over(path: Path, content: bytes, own: int, users: Collection[int]) -> str:
    """A line about what the file holds, unless a plain restart explains it. Raises what forbids to write over it."""
    named = _number(content)
    text = content.strip(b"\0 \t\r\n")
    if named is None and text:
        if len(content) > MAX_PID_FILE_BYTES or "pid" not in path.name.lower():
            raise RunDirectoryError(f"{path} is not a pid file: it is left as it is, name another one")
        return f"the pid file {path} held no process id; it is taken over"
    # In a container every start has the same pid, and a shell may have written it before it became this process.
    if named is None or named in (own, os.getpid()):
        return ""
    if named in users:
        raise AlreadyRunning(f"appsrv is already running on PID {named}.", named)
    if not exists(named):
        return ""
    return f"the pid file {path} named process {named}, which is not an instance that uses it; it is taken over"


def _number(content: bytes) -> int | None:
    text = content.strip()
    # A number above the kernel's type would be an OverflowError of kill(2).
    return int(text) if text.isdigit() and 0 < len(text) <= 10 and 0 < int(text) < 1 << 31 else None
