"""Which files this process writes while it loads an application: these are no saves, and need no reload.

The interpreter tells of each file that is opened for writing, renamed or touched (PEP 578). What a child process writes
is not seen. Knows files, not what is watched, nor why.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

WRITING_SECONDS = 1.0
"""How long after it was opened a file may be written. A later change is a save."""

TICK = 0.1
"""Seconds that the clock of files may be behind."""

_opened: dict[str, tuple[float, int | None]] = {}
"""When each file was last opened for writing, and its inode, if it was there before."""

_placed: dict[str, tuple[int, int, int]] = {}
"""What was renamed to each path: modification time in ns, size, inode."""

_recording = False
_installed = False


def record() -> None:
    """From now on. An audit hook cannot be taken away; one that does not record looks at one variable."""
    global _recording, _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_on_event)
    _recording = True


def stop() -> None:
    """What is written from now on is not remembered; what was, is."""
    global _recording
    _recording = False


def wrote(path: str) -> bool:
    """Whether the file at this path is as this process has written it."""
    try:
        real = os.path.realpath(path)
        found = os.stat(real)
    except (OSError, ValueError):
        return False
    if _placed.get(real) == (found.st_mtime_ns, found.st_size, found.st_ino):
        return True
    when, inode = _opened.get(real, (None, None))
    if when is None or inode not in (None, found.st_ino):
        # An editor that replaces a file makes another one.
        return False
    return when - TICK <= found.st_mtime <= when + WRITING_SECONDS


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if not _recording:
        return
    try:
        if event == "open":
            if isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                _note_opened(arguments[0])
        elif event == "os.rename":
            _note_placed(arguments[0], arguments[1])
        elif event in ("os.truncate", "os.utime"):
            _note_opened(arguments[0])
    except (OSError, ValueError, TypeError):
        # The call that is told of goes on, and raises what it has to.
        return


def _note_opened(path: Any) -> None:
    # A descriptor was opened by its path before.
    if not isinstance(path, int):
        real = os.path.realpath(os.fsdecode(path))
        _opened[real] = time.time(), os.stat(real).st_ino if os.path.exists(real) else None


def _note_placed(source: Any, target: Any) -> None:
    found = os.stat(source)
    _placed[os.path.realpath(os.fsdecode(target))] = found.st_mtime_ns, found.st_size, found.st_ino
