"""A log file that several processes append to, each with its own descriptor.

Every line is one write(2). The file is opened again after rotation has renamed it. An error (a full disk, a directory
that was removed) loses lines, and is reported once; it never raises in the process that writes. Knows nothing of the
content of the lines.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from appsrv.errors import RunDirectoryError
from appsrv.system import unpatched

CHECK_INTERVAL_SECONDS = 1.0
"""At a write, the path is checked for a new file if the last check is older than this."""


def open_to_append(path: str) -> int:
    """A descriptor for appending to the file, which is created with mode 0640 if it does not exist. Raises OSError."""
    # O_NONBLOCK: for a FIFO without a reader, open(2) fails with ENXIO instead of blocking.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o640)


def check_writable(path: str) -> None:
    """Raises RunDirectoryError if the file cannot be written. Called at the start, before the first request."""
    try:
        os.close(open_to_append(path))
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write the access log {path}: {error.strerror} (choose another with --access-log)"
        ) from error


class AppendFile:
    """The file, for one process with any number of threads. `complain` is called with messages for the operator."""

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain
        self._lock = unpatched.Lock()
        self._fd = -1
        self._identity: tuple[int, int] | None = None
        self._check_due = 0.0
        self._broken = False
        self._torn = False
        self._lost = 0
        self.reopen()

    def write(self, line: str) -> None:
        """Append a line with one write(2): with O_APPEND, lines of several processes do not mix."""
        if time.monotonic() >= self._check_due:
            self._check_path()
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._torn:
            # The last write was cut short: end its line, so that this one does not continue it.
            data = b"\n" + data
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._lost += 1
            self._fail(error)
            return
        if written != len(data) or self._broken or self._torn:
            self._note_result(whole=written == len(data))

    def reopen(self) -> None:
        """Open the path again. If that fails, the error is reported and the open file stays in use."""
        with self._lock:
            self._check_due = time.monotonic() + CHECK_INTERVAL_SECONDS
            try:
                fd = open_to_append(self._path)
            except OSError as error:
                self._identity = None
                self._fail(error)
                return
            status = os.fstat(fd)
            self._identity = (status.st_dev, status.st_ino)
            if self._fd < 0:
                self._fd = fd
            else:
                # dup2(2) replaces the file atomically and keeps the number, to which another thread may be writing
                # without the lock. With close(2) and open(2) that thread could write into an unrelated file.
                os.dup2(fd, self._fd, inheritable=False)
                os.close(fd)

    def close(self) -> None:
        """Close the file. Later writes are lost."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check_path(self) -> None:
        self._check_due = time.monotonic() + CHECK_INTERVAL_SECONDS
        try:
            status = os.stat(self._path)
            here = (status.st_dev, status.st_ino)
        except OSError:
            here = None
        if here is None or here != self._identity:
            self.reopen()

    def _note_result(self, *, whole: bool) -> None:
        self._torn = not whole
        if not whole:
            self._lost += 1
            self._fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        elif self._identity is not None:
            self._broken, lost, self._lost = False, self._lost, 0
            self._complain(f"the access log {self._path} is written again; lines lost: {lost}")

    def _fail(self, error: OSError) -> None:
        if not self._broken:
            self._broken = True
            self._complain(f"the access log {self._path} cannot be written: {error.strerror}")
