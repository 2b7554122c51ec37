"""A log file that several processes append to, each for itself: whole lines, opened again when it was moved away.

Nothing that happens to the file, a full disk or a directory that vanished, harms whoever writes; it costs lines, and
one complaint. Knows lines, not what stands in them.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from appsrv.errors import RunDirectoryError
from appsrv.system import unpatched

# How often a process looks whether the file is still the one of that name, when it writes.
LOOK = 1.0


def open_to_append(path: str) -> int:
    """A descriptor to append with; the file is made if need be, readable by its owner's group."""
    # O_NONBLOCK: a named pipe that nobody reads is an error, not a wait.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o640)


def check_writable(path: str) -> None:
    """Raises RunDirectoryError when the file cannot be written: better at the start than at the first request."""
    try:
        os.close(open_to_append(path))
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write the access log {path}: {error.strerror} (choose another with --access-log)"
        ) from error


class AppendFile:
    """The file as one process writes it, in any number of threads. `complain` is told what the operator should know."""

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain
        self._lock = unpatched.Lock()
        self._fd = -1
        self._identity: tuple[int, int] | None = None
        self._look_due = 0.0
        self._broken = False
        self._torn = False
        self._lost = 0
        self.reopen()

    def write(self, line: str) -> None:
        """Append a line. One write(2), so that lines of several processes do not mix."""
        if time.monotonic() >= self._look_due:
            self._look()
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._torn:
            data = b"\n" + data
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._lost += 1
            self._break(error)
            return
        if written != len(data) or self._broken or self._torn:
            self._after_trouble(whole=written == len(data))

    def reopen(self) -> None:
        """Open the file again under its name, now; where that is impossible go on with the one that is open."""
        with self._lock:
            self._look_due = time.monotonic() + LOOK
            try:
                fd = open_to_append(self._path)
            except OSError as error:
                self._identity = None
                self._break(error)
                return
            status = os.fstat(fd)
            self._identity = (status.st_dev, status.st_ino)
            if self._fd < 0:
                self._fd = fd
            else:
                # The number stays: another thread may be writing to it.
                os.dup2(fd, self._fd, inheritable=False)
                os.close(fd)

    def close(self) -> None:
        """Nothing more is written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        self._look_due = time.monotonic() + LOOK
        try:
            status = os.stat(self._path)
            here = (status.st_dev, status.st_ino)
        except OSError:
            here = None
        if here is None or here != self._identity:
            self.reopen()

    def _after_trouble(self, *, whole: bool) -> None:
        self._torn = not whole
        if not whole:
            self._lost += 1
            self._break(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        elif self._identity is not None:
            self._broken, lost, self._lost = False, self._lost, 0
            self._complain(f"the access log {self._path} is written again; lines lost: {lost}")

    def _break(self, error: OSError) -> None:
        if not self._broken:
            self._broken = True
            self._complain(f"the access log {self._path} cannot be written: {error.strerror}")
