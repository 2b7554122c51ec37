"""Slumber: an application that nobody asks for has no process at all, and is loaded for the next request. Pure.

For groups that keep no worker (`min_instances` 0). Told the time and what there is, says when to sleep and to wake.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Slumber:
    """`after` is `max_preloader_idle_time` in seconds, 0 for groups that never sleep."""

    after: float
    asleep: bool = False
    _quiet_since: float | None = None

    def wakes(self, waiting: int) -> bool:
        """Whether a request ends the sleep."""
        if not self.asleep or not waiting:
            return False
        self.awake()
        return True

    def awake(self) -> None:
        """It is loaded now, whatever for."""
        self.asleep, self._quiet_since = False, None

    def falls_asleep(self, now: float, *, quiet: bool) -> bool:
        """Whether the time has come. `quiet`: no worker, no request, no restart."""
        if not quiet or self.asleep or not self.after:
            self._quiet_since = None
            return False
        self._quiet_since = now if self._quiet_since is None else self._quiet_since
        self.asleep = now - self._quiet_since >= self.after
        return self.asleep
