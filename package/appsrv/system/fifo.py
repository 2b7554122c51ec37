"""Reads a FIFO. Secret managers offer `.env` as one: the writer may write it only once, or may not be running.

Waits for the writer for a limited time, and keeps the content. Knows no format.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time

WRITER_WAIT_SECONDS = 30.0
"""How long to wait for a writer. A secret manager may have to ask its user for a password first."""

NOTICE_AFTER_SECONDS = 2.0
"""After this time of waiting, a line in the log names the FIFO."""

_read: dict[str, bytes] = {}


def is_fifo(path: str) -> bool:
    """Whether the path is a FIFO."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def read_once(path: str, timeout: float = WRITER_WAIT_SECONDS) -> bytes:
    """The bytes of the first writer, up to its end. A process reads each path once; further calls return the same
    bytes.

    `timeout` is in seconds. Raises TimeoutError and other OSErrors.
    """
    if path not in _read:
        # Without O_NONBLOCK, open(2) blocks until there is a writer (fifo(7)).
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _read[path] = _read_all(fd, path, timeout)
        finally:
            os.close(fd)
    return _read[path]


def _read_all(fd: int, path: str, timeout: float) -> bytes:
    began, noticed, parts = time.monotonic(), False, list[bytes]()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        waited = time.monotonic() - began
        if waited >= timeout:
            raise TimeoutError(f"no program wrote it within {timeout:g} s")
        # Until the first writer has opened the FIFO, poll(2) reports neither POLLIN nor POLLHUP (Linux).
        if not poll.poll(1000 * min(NOTICE_AFTER_SECONDS, timeout - waited)):
            if not noticed and time.monotonic() - began >= NOTICE_AFTER_SECONDS:
                noticed = True
                sys.stderr.write(f"appsrv: waiting for the program that writes {path}\n")
                sys.stderr.flush()
            continue
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
