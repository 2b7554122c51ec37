"""The pid file, which names the watchdog for other programs. The watchdog has it locked until it ends.

An instance uses the file if it is locked (flock(2)). The number alone proves nothing: after a crash or a reboot, or in
a container, it may be that of any process. Knows no instance and no settings.
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
"""How long to retry. A command that checks whether the file is in use locks it briefly; that must not fail a start."""

POLL_INTERVAL_SECONDS = 0.01

MAX_PID_FILE_BYTES = 4096
"""A larger file is not a pid file, whatever its name."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""The errors of flock(2) on a file system without locks. There only the argument `users` of `take` prevents that two
instances use one file."""


class PidFile:
    """The pid file of this process. `notice` is a log line about the previous content, "" if that was to be expected.
    """

    def __init__(self, path: Path, pid: int, fd: int, notice: str) -> None:
        self.path = path
        self.notice = notice
        self._pid = pid
        self._fd = fd

    @classmethod
    def take(cls, path: Path, pid: int, users: Collection[int] = ()) -> PidFile:
        """Lock the file and write `pid` into it. Overwrites the number of an instance that has ended.

        `users` are the pids of running instances with this pid file, which have no lock on a file system without locks.
        Raises AlreadyRunning, and RunDirectoryError if the file cannot be written or contains anything but a process
        id.
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
        """Remove the file if it still names this process, and then release the lock."""
        if self._fd < 0:
            return
        # Unlink before the lock is released. A process that is waiting for the lock then gets that of the removed file,
        # notices it (`_try_lock` compares the inodes) and creates a new file. In the other order its new file could be
        # unlinked.
        if read(self.path) == self._pid:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._fd)
        self._fd = -1


def read(path: Path) -> int | None:
    """The process id in the file; None if there is no file or no number in it."""
    try:
        return _number(path.read_bytes()[:32])
    except OSError:
        return None


def stale(directory: Path) -> Path | None:
    """A pid file that no instance uses, in the usual places under `directory`; None if there is none."""
    places = (*directory.glob("tmp/pids/appsrv*.pid"), *directory.glob("appsrv*.pid"))
    return next((path for path in sorted(places) if is_stale(path)), None)


def is_stale(path: Path) -> bool:
    """Whether the file exists and no instance uses it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        # The file belongs to another user and cannot be opened: check only whether its process exists.
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
    """A descriptor of the locked file. Raises AlreadyRunning if another process keeps the lock, and OSError."""
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
    """Lock the file. Returns False if another process has the lock, or if the file was removed or replaced meanwhile.
    """
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
    """A log line about the previous content of the file, "" if it is that of a normal restart.

    Raises AlreadyRunning, or RunDirectoryError if the file must not be overwritten.
    """
    named = _number(content)
    text = content.strip(b"\0 \t\r\n")
    if named is None and text:
        if len(content) > MAX_PID_FILE_BYTES or "pid" not in path.name.lower():
            raise RunDirectoryError(f"{path} is not a pid file: it is left as it is, name another one")
        return f"the pid file {path} held no process id; it is taken over"
    # In a container every start has the same pid. A shell may also have written its pid and then executed appsrv.
    if named is None or named in (own, os.getpid()):
        return ""
    if named in users:
        raise AlreadyRunning(f"appsrv is already running on PID {named}.", named)
    if not exists(named):
        return ""
    return f"the pid file {path} named process {named}, which is not an instance that uses it; it is taken over"


def _number(content: bytes) -> int | None:
    text = content.strip()
    # A number beyond pid_t (32 bits) would make `os.kill` raise OverflowError.
    return int(text) if text.isdigit() and 0 < len(text) <= 10 and 0 < int(text) < 1 << 31 else None
