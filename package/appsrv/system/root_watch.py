"""Checks whether an application's directory is still the one from which its running code was loaded.

A release may be removed after the next one was deployed, or the directory may be replaced. The workers keep running,
because they have loaded their code, but the operator should know. Each change is reported once. Knows only a path.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

CHECK_INTERVAL_SECONDS = 2.0

GONE: tuple[int, ...] = ()


class RootWatch:
    """Compares the directory `root` with the one from which the code was loaded."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen: tuple[int, ...] | None = None
        self._reported: tuple[int, ...] | None = None

    def check(self, loaded_from: Sequence[int]) -> str | None:
        """A log line about a change of the directory; None if it has not changed or the change was reported.

        `loaded_from`: the `identity` of the directory when the generation that serves was loaded.
        """
        now = identity(self._root)
        before, self._seen = self._seen, now
        if not loaded_from or now == tuple(loaded_from):
            self._reported = None
            return None
        # Report a change only if the next check finds it, too: during a deployment the symbolic link changes just
        # before the restart, after which the new directory is the one that the code was loaded from.
        if now != before or now == self._reported:
            return None
        self._reported = now
        return self._line(gone=now == GONE)

    def _line(self, *, gone: bool) -> str:
        if not gone:
            return (
                f"{self._root} is not the directory that the running code was loaded from: "
                f"appsrv restart-app {self._root} loads the present code"
            )
        return (
            f"{self._root}, the directory of the application, has been removed: its workers keep running the code that "
            "they have loaded, but no new code can be loaded from there. If it was a release, start appsrv with the "
            "link to the current one (appsrv start /path/to/current)"
        )


def identity(path: str) -> tuple[int, ...]:
    """Device and inode of a directory; empty if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return GONE
    return found.st_dev, found.st_ino
