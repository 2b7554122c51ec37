"""The restart file, `tmp/restart.txt`: a touch restarts the application. It is checked each second, also without
requests.

This module knows the file and its times. The restart is the caller's. `tmp/always_restart.txt` does nothing: a restart
for each request is what development servers with their reloader do better.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent import get_hub

NAME = Path("tmp", "restart.txt")
CHECK_SECONDS = 1.0

# (modification time in ns, inode); None when there is no such file.
_State = tuple[int, int] | None


class RestartFile:
    """`changed` tells whether the file was touched, created or replaced since the last check. Removing it restarts
    nothing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen = _state(path)

    def changed(self) -> bool:
        """Check now. On a file system that hangs this takes as long as the hang."""
        before, self._seen = self._seen, _state(self.path)
        return self._seen is not None and self._seen != before

    def watch(self, restart: Callable[[], object], until: Callable[[], bool] = lambda: False) -> None:
        """Check each second, until `until` is true, and call `restart` when the file has changed."""
        while not until():
            gevent.sleep(CHECK_SECONDS)
            # In a thread: a network file system that hangs must not hold up the server.
            if get_hub().threadpool.apply(self.changed):
                restart()


def _state(path: str) -> _State:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
