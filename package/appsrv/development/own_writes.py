"""Records the files that this process writes while it loads an application: such a change is no reason for a reload.

An audit hook of the interpreter (PEP 578) is called for each file that is opened for writing, renamed or touched. The
writes of child processes are not recorded. This module knows files, not the watching of them.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

MAX_WRITING_SECONDS = 1.0
"""The time from the opening of a file within which its modification counts as a write of this process."""

CLOCK_LAG_SECONDS = 0.1
"""The time, in seconds, by which the time stamps of files may lag behind the clock."""

_opened: dict[str, tuple[float, int | None]] = {}
"""For each path: the time of the last opening for writing, and the file's inode if it existed before."""

_renamed: dict[str, tuple[int, int, int]] = {}
"""For each path: the modification time in ns, the size and the inode of the file that was renamed to it."""

_recording = False
_installed = False


def record() -> None:
    """Begin to record. An audit hook cannot be removed; while it does not record, it only reads one variable."""
    global _recording, _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_on_event)
    _recording = True


def stop() -> None:
    """Record no further writes; keep the recorded ones."""
    global _recording
    _recording = False


def is_own_write(path: str) -> bool:
    """Whether the present file at this path was written by this process."""
    try:
        real = os.path.realpath(path)
        found = os.stat(real)
    except (OSError, ValueError):
        return False
    if _renamed.get(real) == (found.st_mtime_ns, found.st_size, found.st_ino):
        return True
    when, inode = _opened.get(real, (None, None))
    if when is None or inode not in (None, found.st_ino):
        # An editor that replaces the file creates a new one, with another inode.
        return False
    return when - CLOCK_LAG_SECONDS <= found.st_mtime <= when + MAX_WRITING_SECONDS


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if not _recording:
        return
    try:
        if event == "open":
            if isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                _record_opening(arguments[0])
        elif event == "os.rename":
            _record_rename(arguments[0], arguments[1])
        elif event in ("os.truncate", "os.utime"):
            _record_opening(arguments[0])
    except (OSError, ValueError, TypeError):
        # An exception here would make the audited call fail. That call raises its own error, if there is one.
        return


def _record_opening(path: Any) -> None:
    # A file that is opened by its descriptor was recorded when its path was opened.
    if not isinstance(path, int):
        real = os.path.realpath(os.fsdecode(path))
        _opened[real] = time.time(), os.stat(real).st_ino if os.path.exists(real) else None


def _record_rename(source: Any, target: Any) -> None:
    found = os.stat(source)
    _renamed[os.path.realpath(os.fsdecode(target))] = found.st_mtime_ns, found.st_size, found.st_ino
