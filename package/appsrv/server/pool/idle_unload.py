"""Idle unload: an application without requests has no process at all, and is loaded for the next request. Pure.

For groups that keep no worker (`min_instances` 0). Gets the time and the load, and decides when to unload and to load.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class IdleUnload:
    """`after` is `max_preloader_idle_time` in seconds, 0 for groups that are never unloaded."""

    after: float
    unloaded: bool = False
    _idle_since: float | None = None

    def should_load(self, waiting: int) -> bool:
        """Whether a request ends the unloaded state."""
        if not self.unloaded or not waiting:
            return False
        self.loaded()
        return True

    def set_unloaded(self, unloaded: bool) -> None:
        """Whether the application is to be loaded only for the next request."""
        self.unloaded = unloaded

    def loaded(self) -> None:
        """The application is loaded now, for whatever reason."""
        self.unloaded, self._idle_since = False, None

    def should_unload(self, now: float, *, idle: bool) -> bool:
        """Whether the application is to be unloaded now. `idle`: no worker, no request, no restart."""
        if not idle or self.unloaded or not self.after:
            self._idle_since = None
            return False
        self._idle_since = now if self._idle_since is None else self._idle_since
        self.unloaded = now - self._idle_since >= self.after
        return self.unloaded
