"""What the server knows of preloaders and workers, of failures and of restarts: records, and no decisions.

A handle is not the process: it is how the server speaks to it, and what it last heard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from appsrv.channel import Outbox
from appsrv.pool import Load
from appsrv.scoreboard import Slot


@dataclass
class PreloaderHandle:
    """What the server knows of a preloader. `loaded`: since when the application is loaded, 0.0 if it is not;
    `has_forked`: whether it has made a worker; `ending`: since when nothing keeps it, 0.0 where something does;
    `killed`: for it has not ended then.
    """

    generation: int
    serial: int
    pid: int
    outbox: Outbox
    watcher: Any
    since: float
    loaded: float = 0.0
    has_forked: bool = False
    failed: bool = False
    dismissed: bool = False
    ending: float = 0.0
    killed: bool = False
    reason: str = ""

    @property
    def importing(self) -> bool:
        """Whether it still imports the application."""
        return not (self.loaded or self.failed or self.dismissed)


@dataclass(eq=False)
class WorkerHandle:
    """What the server knows of a worker; one equals itself alone.

    `hung_up`: since when it has let go of its channel, 0.0 if it has not; `missed`: so long that somebody should have
    said how it ended.
    `changes`: where it is told of changed files, if it does not watch them itself. `theirs`: its ends, to be passed on.
    """

    serial: int
    generation: int
    index: int
    slot: Slot
    outbox: Outbox
    watcher: Any
    since: float
    started: float
    pid: int = 0
    first: bool = False
    check: bool = False
    hung_up: float = 0.0
    missed: bool = False
    theirs: list[int] = field(default_factory=list)
    changes: Outbox | None = None
    reason: str = ""
    upstream_ended: bool = False
    in_progress: dict[int, tuple[int, float]] = field(default_factory=dict)

    def call(self) -> None:
        """Make the worker look at its channel."""
        self.slot.call()

    def load(self) -> Load:
        """The worker's load, read from the scoreboard.

        Leaves in `in_progress` what each of its cells is busy with: number of the cell: (connection id, since when).
        """
        cells = self.slot.brief()
        self.in_progress = {n: (cid, started) for n, (cid, started, _) in enumerate(cells) if cid}
        processed = sum(done for _, _, done in cells)
        last_used = max((started for _, started, _ in cells), default=0.0)
        return Load(len(self.in_progress), processed, last_used, self.slot.busy_threads)


@dataclass(frozen=True)
class Outcome:
    """How a restart ended. `superseded`: it did not fail, a later change of the code has made it pointless. `stopped`:
    the code before was stopped first, and nothing serves.
    """

    ok: bool
    generation: int
    message: str = ""
    traceback: str = ""
    superseded: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a generation could not be loaded. `pid`: the worker whose last lines say why, where no traceback does."""

    when: float
    message: str
    traceback: str = ""
    exit_code: int = 4
    pid: int = 0

    @property
    def name(self) -> str:
        """What tells it from other failures."""
        return f"{self.when:.6f}"


# Told what this process may not do itself: the watchdog has stayed root, where applications are different users'.
_privileged_senders: list[Callable[[int, int], None]] = []


def send_signals_through(sender: Callable[[int, int], None]) -> None:
    """`sender` sends (pid, number) where this process lacks the permission."""
    _privileged_senders[:] = [sender]


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended already, or not have a pid yet."""
    if pid <= 0:
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        for send in _privileged_senders:
            send(pid, number)
