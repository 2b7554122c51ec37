"""Reads a FIFO, as secret managers offer `.env`: its writer may serve it once, or may not be there.

Waits a limited time for the writer, and remembers what it wrote. Knows no format.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time

WRITER_WAIT_SECONDS = 30.0
"""A secret manager may ask its user first."""

NOTICE_AFTER_SECONDS = 2.0
"""When the log has a line that says which FIFO is still waited for."""

_read: dict[str, bytes] = {}


def is_fifo(path: str) -> bool:
    """Whether there is a FIFO."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def read_once(path: str, patience: float = WRITER_WAIT_SECONDS) -> bytes:
    """What the first writer wrote, up to its end; read once per process. Raises TimeoutError and other OSErrors."""
    if path not in _read:
        # Without O_NONBLOCK the call would wait for a writer, for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _read[path] = _read_all(fd, path, patience)
        finally:
            os.close(fd)
    return _read[path]


def _read_all(fd: int, path: str, patience: float) -> bytes:
    began, told, parts = time.monotonic(), False, list[bytes]()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        waited = time.monotonic() - began
        if waited >= patience:
            raise TimeoutError(f"no program wrote it within {patience:g} s")
        # A FIFO whose writer has not come yet is not at its end: it is neither readable nor hung up (Linux).
        if not poll.poll(1000 * min(NOTICE_AFTER_SECONDS, patience - waited)):
            if not told and time.monotonic() - began >= NOTICE_AFTER_SECONDS:
                told = True
                sys.stderr.write(f"appsrv: waiting for the program that writes {path}\n")
                sys.stderr.flush()
            continue
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
