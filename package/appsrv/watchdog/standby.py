"""The watchdog's side of the standby preloader: when it is started, and that each is used at most once.

Starts no process itself: `launch` does. What a standby preloader does until it is used stands in `standby`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from appsrv.ipc import messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.system.readiness import has_input

"""In the environment of each preloader that a development server starts; the start-up hook takes it away."""

WAIT, GO = "wait", "go"
"""Its values: be a standby preloader; load the application at once."""

SOON = 0.5
"""Seconds from the moment at which the application was loaded: its first requests come first."""

LATER = 3.0
"""Seconds from the start of a preloader that may not get so far: its loading comes first."""


@dataclass
class Launched:
    """A preloader that was started: the watchdog's channel to it, and the end of its channel that is the server's."""

    pid: int
    channel: Channel
    server_end: socket.socket

    def close(self) -> None:
        """Close both."""
        self.channel.close()
        self.server_end.close()


class StandbyPreloader:
    """The one that stands by, if any. `due` is when one is to be started, infinity when none is."""

    def __init__(
        self, launch: Callable[[], Launched], kill: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`kill` ends a process that was started, by its pid."""
        self._launch = launch
        self._kill = kill
        self._clock = clock
        self._order: messages.Prepare | None = None
        self._standing_by: Launched | None = None
        self._closed = False
        self.ending: set[int] = set()
        """Pids of those that were killed and have not been reaped yet."""
        self.due = float("inf")

    def on_loaded(self, order: messages.Prepare) -> None:
        """A preloader has loaded the application and says what the next one may import; nothing: it is to be none."""
        if self._closed:
            return
        if order.modules:
            self._order = order
            self.due = self._clock() + SOON
        else:
            self._order = None
            self._end()

    def on_started(self) -> None:
        """A preloader was started; that it loads is not certain."""
        if self._order is not None and not self._closed:
            self.due = self._clock() + LATER

    def turn(self) -> None:
        """Start one if it is time. Without room for another process there is none: the next save only takes longer."""
        if self._order is None or self._clock() < self.due:
            return
        self.due = float("inf")
        if self._standing_by is not None:
            return
        try:
            self._standing_by = self._launch()
        except OSError:
            return
        try:
            self._standing_by.channel.send(self._order)
        except (ChannelClosed, OSError):
            self._end()

    def take(self) -> Launched | None:
        """The preloader that stands by, which is now used, or None."""
        taken, self._standing_by = self._standing_by, None
        if taken is not None and _has_ended(taken.channel):
            taken.close()
            return None
        return taken

    def exited(self, pid: int) -> bool:
        """Whether this process, which has ended, was standing by."""
        if pid in self.ending:
            self.ending.remove(pid)
            return True
        if self._standing_by is None or self._standing_by.pid != pid:
            return False
        self._let_go()
        return True

    def close(self) -> None:
        """End the one that stands by, and start no other."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        self.due = float("inf")
        if self._standing_by is not None:
            # It may be importing still, and has nothing to lose.
            self._kill(self._standing_by.pid)
            self.ending.add(self._standing_by.pid)
        self._let_go()

    def _let_go(self) -> None:
        if self._standing_by is not None:
            self._standing_by.close()
            self._standing_by = None


def _has_ended(channel: Channel) -> bool:
    """Whether the other side has gone: one that stands by says nothing, so that all there is to read is its end."""
    return has_input(channel.fileno())
