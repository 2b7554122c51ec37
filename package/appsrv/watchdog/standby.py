"""The standby preloader of a development server, in the watchdog: when one is started, and that each is used only once.

Starts no process itself: the caller passes a function that does. What the process does until it is used is known to
`development.standby`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from appsrv.ipc import messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.system.readiness import has_input

WAIT, GO = "wait", "go"
"""Values of the variable `internal_variables.STANDBY`: be a standby preloader; load the application at once."""

START_AFTER_LOAD_SECONDS = 0.5
"""How long the start waits once the application is loaded: its first requests need the processor more."""

START_AFTER_PRELOADER_SECONDS = 3.0
"""How long the start waits after a preloader was started, in case it never loads the application."""


@dataclass
class Launched:
    """A preloader process that was started, with the watchdog's channel to it.

    `server_end` is the server's end of the other channel of the process.
    """

    pid: int
    channel: Channel
    server_end: socket.socket

    def close(self) -> None:
        """Close both channels."""
        self.channel.close()
        self.server_end.close()


class StandbyPreloader:
    """The standby preloader, if there is one. `due` is when to start one, infinity when none is wanted."""

    def __init__(
        self, launch: Callable[[], Launched], kill: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        """`launch` starts a process, or raises OSError; `kill` ends one by its pid."""
        self._launch = launch
        self._kill = kill
        self._clock = clock
        self._order: messages.Prepare | None = None
        self._process: Launched | None = None
        self._closed = False
        self.ending: set[int] = set()
        """The pids of processes that were killed and have not been reaped."""
        self.due = float("inf")

    def on_loaded(self, order: messages.Prepare) -> None:
        """A preloader has loaded the application. `order` is what the next one may import before it is needed.

        Without modules in it, there is to be no standby preloader.
        """
        if self._closed:
            return
        if order.modules:
            self._order = order
            self.due = self._clock() + START_AFTER_LOAD_SECONDS
        else:
            self._order = None
            self._end()

    def on_started(self) -> None:
        """A preloader was started. If it loads the application, `on_loaded` follows."""
        if self._order is not None and not self._closed:
            self.due = self._clock() + START_AFTER_PRELOADER_SECONDS

    def start_if_due(self) -> None:
        """Start a process if it is time. If the system has no room for one, the next reload only takes longer."""
        if self._order is None or self._clock() < self.due:
            return
        self.due = float("inf")
        if self._process is not None:
            return
        try:
            self._process = self._launch()
        except OSError:
            return
        try:
            self._process.channel.send(self._order)
        except (ChannelClosed, OSError):
            self._end()

    def take(self) -> Launched | None:
        """The standby preloader, which is used from now on; None when there is none or it has ended."""
        taken, self._process = self._process, None
        if taken is not None and _has_ended(taken.channel):
            # It may have ended before the watchdog has reaped it.
            taken.close()
            return None
        return taken

    def exited(self, pid: int) -> bool:
        """A process was reaped; returns whether it was a standby preloader."""
        if pid in self.ending:
            self.ending.remove(pid)
            return True
        if self._process is None or self._process.pid != pid:
            return False
        self._forget()
        return True

    def close(self) -> None:
        """End the standby preloader, and start no other one."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        self.due = float("inf")
        if self._process is not None:
            # By SIGKILL: it may be in the middle of an import, and it holds nothing that could be lost.
            self._kill(self._process.pid)
            self.ending.add(self._process.pid)
        self._forget()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def _has_ended(channel: Channel) -> bool:
    """Whether the other side has closed the channel. A standby preloader sends nothing, so any input is the end."""
    return has_input(channel.fileno())
