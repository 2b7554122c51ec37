"""The deaths of a group's workers: what each died of, what it was doing, what it said last.

Says it in the log and keeps the last few for `appsrv status`. The last words come from the watchdog, which reads what
workers print. Knows the ends of processes, not what follows from them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appsrv import message
from appsrv.death import kind_of, who_killed
from appsrv.handles import WorkerHandle
from appsrv.out_of_memory import OutOfMemoryKills
from appsrv.request_id import new_error_id
from appsrv.scoreboard import GONE, CellReading, without_query

log = logging.getLogger("appsrv.deaths")

KEPT = 20


@dataclass
class Death:
    """One death. `error_id` is empty when no request was being served; `requests` are method and path of each."""

    when: float
    pid: int
    generation: int
    cause: str
    error_id: str
    requests: list[str]
    level: int
    last_lines: list[str] = field(default_factory=list)


class Deaths:
    """All that were not expected. `tell_watchdog` sends a message to the watchdog."""

    def __init__(
        self, group: str, tell_watchdog: Callable[[message.Message], None], kernel: OutOfMemoryKills
    ) -> None:
        self.recent: deque[Death] = deque(maxlen=KEPT)
        self.kinds: Counter[str] = Counter()
        self.kernel = kernel
        self._group = group
        self._tell_watchdog = tell_watchdog

    @property
    def last(self) -> Death | None:
        """The youngest."""
        return self.recent[-1] if self.recent else None

    def cause(self, status: int, reason: str) -> str:
        """Why a process has ended; `reason` is ours, when we have killed it."""
        return who_killed(status, reason, self.kernel, time.monotonic())

    def report(self, handle: WorkerHandle, cause: str, served: Sequence[CellReading], *, level: int) -> Death:
        """Say it, with an error id for the pages of those that it was serving."""
        error_id = new_error_id() if served else ""
        log.log(level, "worker %d of %s ended: %s", handle.pid, self._group, cause)
        for cell in served:
            client = ", whose client had gone," if cell.client == GONE else ""
            log.error(
                "error id %s: worker %d was serving %s%s for %.3f s when it ended: %s",
                error_id, handle.pid, without_query(cell.request_line), client, time.monotonic() - cell.started, cause,
            )
        requests = [without_query(cell.request_line) for cell in served]
        death = Death(time.time(), handle.pid, handle.generation, cause, error_id, requests, level)
        self.recent.append(death)
        self.kinds[kind_of(cause, handle.reason)] += 1
        self._tell_watchdog(message.LastWordsWanted(handle.pid))
        return death

    def last_words(self, pid: int, lines: list[str]) -> None:
        """The watchdog's answer: repeated in the log, where the application's lines may stand far above."""
        death = next((death for death in reversed(self.recent) if death.pid == pid), None)
        if death is None or not lines:
            return
        death.last_lines = lines
        whose = f"error id {death.error_id}: " if death.error_id else ""
        log.log(death.level, "%sthe last lines that worker %d wrote:", whose, pid)
        for line in lines:
            log.log(death.level, "  | %s", line)
