"""Whether the directory of an application is still the one that its running code was loaded from.

A release may be removed after the deployment of the next one, or the directory be replaced. Nothing breaks at once: the
workers have loaded their code. Knows a path and what is there; tells each change once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

CHECK_INTERVAL_SECONDS = 2.0

GONE: tuple[int, ...] = ()


class RootWatch:
    """`look` compares the directory with the one that the code was loaded from."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen: tuple[int, ...] | None = None
        self._reported: tuple[int, ...] | None = None

    def look(self, loaded_from: Sequence[int]) -> str | None:
        """What has become of the directory, in a line for the log; None as long as nothing has, or it was told.

        `loaded_from`: its identity, of `identity`, when the generation that serves was loaded.
        """
        now = identity(self._root)
        before, self._seen = self._seen, now
        if not loaded_from or now == tuple(loaded_from):
            self._reported = None
            return None
        # Seen twice: the restart that belongs to a deployment comes a moment after the link has turned.
        if now != before or now == self._reported:
            return None
        self._reported = now
        return self._line(gone=now == GONE)

    def _line(self, *, gone: bool) -> str:
        if not gone:
            return (
                f"{self._root} is another directory than the one that the running code was loaded from: "
                f"appsrv restart-app {self._root} loads what is there now"
            )
        return (
            f"{self._root}, the directory of the application, has been removed: its workers go on with what they have "
            "loaded, but no new code can be loaded from there. If it was a release, start appsrv with the link to the "
            "current one (appsrv start /path/to/current)"
        )


def identity(path: str) -> tuple[int, ...]:
    """Device and inode of a directory; empty when it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return GONE
    return found.st_dev, found.st_ino
