"""The file whose touch restarts the application, `tmp/restart.txt`: looked at each second, also without any requests.

Knows a file and its times; restarting is done by whoever is told. `tmp/always_restart.txt` is not heeded: a restart per
request is what development servers with their reloader do better.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent import get_hub

NAME = Path("tmp", "restart.txt")
CHECK_SECONDS = 1.0

# (modification time in ns, inode); None: there is no such file.
_State = tuple[int, int] | None


class RestartFile:
    """`changed` tells whether it was touched, created or replaced since the last look; its removal is no order."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen = _state(path)

    def changed(self) -> bool:
        """Look now. May take as long as a file system does that hangs."""
        before, self._seen = self._seen, _state(self.path)
        return self._seen is not None and self._seen != before

    def watch(self, restart: Callable[[], object], until: Callable[[], bool] = lambda: False) -> None:
        """Look each second, `until` something is so, and call `restart` when it has changed."""
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
