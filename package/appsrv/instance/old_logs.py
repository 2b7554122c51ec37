"""Removes old logs of development servers from the state directory, which no other program cleans up.

There is one directory per project and port, `STATE/NAME/server.log`. It is removed if it was not written to for
`KEEP_SECONDS` and no running instance has that name. Files with other names are never removed. Knows files and times.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from appsrv.instance.run_directory import is_alive

KEEP_SECONDS = 30 * 86400.0
_OURS = "server.log*"


def remove_old_logs(state: Path | None, run_bases: Iterable[Path], now: float | None = None) -> list[Path]:
    """Remove the log directories that are older than `KEEP_SECONDS`, and return them. Errors are ignored.

    `now` is in seconds since the epoch.
    """
    if state is None:
        return []
    bases = list(run_bases)
    oldest = (time.time() if now is None else now) - KEEP_SECONDS
    removed = []
    for directory in _log_directories(state):
        if _last_used(directory) < oldest and not any(is_alive(base / directory.name) for base in bases):
            with contextlib.suppress(OSError):
                _remove(directory)
                removed.append(directory)
    return removed


def _log_directories(state: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for entry in sorted(state.iterdir()):
            if not entry.is_symlink() and (entry / "server.log").is_file():
                yield entry


def _last_used(directory: Path) -> float:
    return max((file.lstat().st_mtime for file in directory.glob(_OURS)), default=0.0)


def _remove(directory: Path) -> None:
    for file in directory.glob(_OURS):
        file.unlink()
    # Fails if there are other files in it (ENOTEMPTY): the directory stays.
    directory.rmdir()
