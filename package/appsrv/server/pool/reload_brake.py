"""Slows down a development server that reloads in a loop, since the application changes a watched file when it starts.

Knows the files that change and when the application was loaded. Does not know how it is reloaded (`lifecycle`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("appsrv.reload")

AT_START_SECONDS = 0.75
"""A change within this time after the load may have been made by the application as it started. A person, or an editor
that saves after each pause, takes longer from one save to the next."""

RELOADS_IN_A_ROW = 3
"""More reloads than this in a row for the same file, each within `AT_START_SECONDS`, are a loop."""

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0


class ReloadBrake:
    """Calls `reload` with the files that have changed: at once, or after a pause if the reloads are a loop."""

    def __init__(
        self, name: str, reload: Callable[[list[str]], None], *, later: Callable[..., Any], now: Callable[[], float]
    ) -> None:
        """`later(seconds, function, *arguments)` calls the function after that time; its result has `kill`."""
        self._name = name
        self._reload = reload
        self._later = later
        self._now = now
        self._files: set[str] = set()
        self._in_a_row = 0
        self._loaded: float | None = None
        self._pending: Any = None

    def changed(self, paths: list[str]) -> None:
        """Files have changed, so that the code has to be loaded again."""
        same = self._files & set(paths)
        if self._pending is not None:
            if same:
                return
            self.stop()
        at_start = self._loaded is None or self._now() - self._loaded <= AT_START_SECONDS
        self._in_a_row = self._in_a_row + 1 if same and at_start else 1
        self._files = same if self._in_a_row > 1 else set(paths)
        pause = pause_before(self._in_a_row)
        if not pause:
            self._go(paths)
            return
        log.warning(
            "%s changes at each start of %s, %d times in a row: its start writes it, it seems. The next reload waits "
            "%g s. Write the file only when its content differs, or where it is not watched",
            ", ".join(sorted(self._files)), self._name, self._in_a_row, pause,
        )
        self._pending = self._later(pause, self._go, paths)

    def loaded(self) -> None:
        """The application was loaded or cannot be loaded."""
        self._loaded = self._now()

    def stop(self) -> None:
        """Forget a reload that waits."""
        if self._pending is not None:
            self._pending.kill(block=False)
            self._pending = None

    def _go(self, paths: list[str]) -> None:
        self._pending = self._loaded = None
        self._reload(paths)


def pause_before(reload: int) -> float:
    """The seconds to wait before the n-th reload in a row."""
    excess = reload - RELOADS_IN_A_ROW
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(excess - 1, 8)) if excess > 0 else 0.0
