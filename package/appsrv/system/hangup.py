"""What a SIGHUP means to a watchdog: its terminal has been closed, or a process asks for a restart.

The kernel sends SIGHUP to the session leader and the foreground process group of a terminal that is closed; the shell
that leads the session passes it on to its jobs. Every other SIGHUP was sent by hand. Decides; acts on nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from enum import Enum

from appsrv.system.process_tree import exists

SHELL_HANGUP_DELAY_SECONDS = 0.3
"""How long a SIGHUP of the shell waits. A terminal emulator may signal the shell just before it closes the
terminal, and `kill -HUP %1`, which is a request to restart, is sent by the shell, too."""


class Meaning(Enum):
    """What to do about a SIGHUP."""

    RESTART = "restart"
    END = "end"
    NOTHING = "nothing"


class Hangup:
    """The terminal of this process's session, if it has one. `due` is when `decide` is to be called, if at all.

    `ignored`: the process was started with SIGHUP ignored (`nohup`), so it outlives its terminal.
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
        """To be made before SIGHUP is handled."""
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        return cls(ignored=ignored, has_terminal=_has_terminal, leader=os.getsid(0), exists=exists)

    def on_signal(self, sender: int | None) -> Meaning | None:
        """What a SIGHUP means; None when `decide` tells that later.

        `sender` is its pid, 0 for the kernel, None where the system does not tell.
        """
        if sender == 0:
            return self._ending()
        # An unknown sender may be the shell as long as there is one.
        by_shell = self._exists(self._leader) if sender is None else sender == self._leader
        if not (by_shell and self._had_terminal):
            return Meaning.RESTART
        self.due = min(self.due, self._clock() + SHELL_HANGUP_DELAY_SECONDS)
        return None

    def decide(self) -> Meaning | None:
        """What the SIGHUP of the shell meant; None as long as that is not known."""
        if self._clock() < self.due:
            return None
        self.due = float("inf")
        return Meaning.RESTART if self._has_terminal() else self._ending()

    def _ending(self) -> Meaning:
        return Meaning.NOTHING if self._ignored else Meaning.END


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal: it has none any more once that was closed (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True
