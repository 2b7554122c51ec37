"""Interprets a SIGHUP to the watchdog: its terminal was closed, or a process requests a restart.

The kernel sends SIGHUP to the session leader and the foreground process group of a terminal that is closed; the shell
that leads the session sends it to its jobs. Every other SIGHUP is a request to restart. Decides; acts on nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from enum import Enum

from appsrv.system.process_tree import exists

SHELL_HANGUP_DELAY_SECONDS = 0.3
"""How long the decision about a SIGHUP of the shell is deferred. A terminal emulator may signal the shell just before
it closes the terminal, and the shell also sends the SIGHUP of `kill -HUP %1`, which requests a restart.
"""


class Meaning(Enum):
    """The reaction to a SIGHUP."""

    RESTART = "restart"
    END = "end"
    NOTHING = "nothing"


class Hangup:
    """The state of this process's controlling terminal. `decide` has to be called at `due` (infinity: not at all).

    `ignored`: the process was started with SIGHUP ignored (nohup(1)) and keeps running without its terminal. `leader`:
    the pid of the session leader. `exists`: whether a pid exists.
    """

    def __init__(
        self, *, ignored: bool, has_terminal: Callable[[], bool], leader: int, exists: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ignored = ignored
        self._has_terminal = has_terminal
        self._leader = leader
        self._exists = exists
        self._clock = clock
        self._had_terminal = has_terminal()
        self.due = float("inf")

    @classmethod
    def of_this_process(cls) -> Hangup:
        """For the calling process, before it installs its handler of SIGHUP."""
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        return cls(ignored=ignored, has_terminal=_has_terminal, leader=os.getsid(0), exists=exists)

    def on_signal(self, sender: int | None) -> Meaning | None:
        """The reaction to a SIGHUP; None if `decide` will return it later.

        `sender`: the pid of the sender, 0 for the kernel, None if the system does not report it.
        """
        if sender == 0:
            return self._ending()
        # Without signalfd(2) the sender is unknown: it may be the shell if the session has a leader.
        by_shell = self._exists(self._leader) if sender is None else sender == self._leader
        if not (by_shell and self._had_terminal):
            return Meaning.RESTART
        self.due = min(self.due, self._clock() + SHELL_HANGUP_DELAY_SECONDS)
        return None

    def decide(self) -> Meaning | None:
        """The reaction to the SIGHUP of the shell; None before `due`."""
        if self._clock() < self.due:
            return None
        self.due = float("inf")
        return Meaning.RESTART if self._has_terminal() else self._ending()

    def _ending(self) -> Meaning:
        return Meaning.NOTHING if self._ignored else Meaning.END


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal. After the terminal was closed it has none (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True
