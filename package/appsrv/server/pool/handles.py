"""Records of the server about preloaders and workers, failures and restarts. Decides nothing.

A handle is the server's side of a process: its channel, and its last known state.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from appsrv.ipc.channel import Outbox
from appsrv.ipc.scoreboard import Slot
from appsrv.server.pool.pool import Load


@dataclass
class PreloaderHandle:
    """A preloader. `loaded`: when it had loaded the application (0.0: not yet). `has_forked`: it has forked a worker.
    `ending`: since when it has had no reason to live on (0.0: it has one). `killed`: it did not end by itself then.
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
    """A worker. Compared by identity.

    `hung_up`: when the worker closed its channel (0.0: still open). `missed`: its exit report is overdue.
    `ready`: its Ready was read. `early_ready`: the pids in the Ready messages that were read before its pid was known.
    `changes`: the channel for the paths of changed files, if the worker does not watch them itself. `theirs`: the
    worker's ends of its channels, to be passed on to its preloader.
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
    ready: bool = False
    early_ready: set[int] = field(default_factory=set)
    theirs: list[int] = field(default_factory=list)
    changes: Outbox | None = None
    reason: str = ""
    upstream_ended: bool = False
    in_progress: dict[int, tuple[int, float]] = field(default_factory=dict)

    def call(self) -> None:
        """Make the worker read its channel."""
        self.slot.request_attention()

    def load(self) -> Load:
        """The worker's load, read from the scoreboard.

        Sets `in_progress`: for the number of each busy cell (connection id, since when).
        """
        cells = self.slot.brief()
        self.in_progress = {n: (cid, started) for n, (cid, started, _) in enumerate(cells) if cid}
        processed = sum(done for _, _, done in cells)
        last_used = max((started for _, started, _ in cells), default=0.0)
        return Load(len(self.in_progress), processed, last_used, self.slot.busy_threads)


@dataclass(frozen=True)
class RestartOutcome:
    """How a restart ended. `superseded`: it did not fail, but a later change of the code has replaced it. `stopped`:
    the old code was stopped first, so that now no code serves.
    """

    ok: bool
    generation: int
    message: str = ""
    traceback: str = ""
    superseded: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a generation could not be loaded. `pid`: without a traceback, the worker whose last lines show the cause."""

    when: float
    message: str
    traceback: str = ""
    exit_code: int = 4
    pid: int = 0

    @property
    def name(self) -> str:
        """Identifies this failure."""
        return f"{self.when:.6f}"


# Where applications run as different users, the watchdog has stayed root and sends what this process may not send.
_privileged_senders: list[Callable[[int, int], None]] = []


def send_signals_through(sender: Callable[[int, int], None]) -> None:
    """`sender` sends (pid, number) where this process lacks the permission."""
    _privileged_senders[:] = [sender]


def signal_or_delegate(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended already, or not have a pid yet.

    Where this process may not signal it, because it belongs to another user, the sender that `send_signals_through` was
    given is asked to. `process_tree.send_signal` asks nobody: it is for processes that the caller may always signal.
    """
    if pid <= 0:
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        for send in _privileged_senders:
            send(pid, number)
