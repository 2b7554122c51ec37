"""The unexpected ends of a group's workers: the cause, the requests that were in progress, the last lines written.

Logs them and keeps the last few for `appsrv status`. The watchdog, which reads the output of workers, sends the last
lines. Does not know what follows from the end of a worker (`pool`, `lifecycle`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appsrv.ipc import messages
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import GONE, CellReading, without_query
from appsrv.server.pool.handles import WorkerHandle
from appsrv.system.exit_status import attributed_cause, kind_of
from appsrv.system.oom_kills import OutOfMemoryKills
from appsrv.wsgi.request_id import new_error_id

log = logging.getLogger("appsrv.deaths")

KEPT_DEATHS = 20


@dataclass
class Death:
    """One end. `error_id` is empty when no request was being served; `requests` are method and path of each."""

    when: float
    pid: int
    generation: int
    cause: str
    error_id: str
    requests: list[str]
    level: int
    last_lines: list[str] = field(default_factory=list)


class Deaths:
    """All unexpected ends of one group's workers."""

    def __init__(
        self, group: str, *, send_to_watchdog: Callable[[Message], None], kernel: OutOfMemoryKills,
        now: Callable[[], float],
    ) -> None:
        self.recent: deque[Death] = deque(maxlen=KEPT_DEATHS)
        self.kinds: Counter[str] = Counter()
        self.kernel = kernel
        self._group = group
        self._send_to_watchdog = send_to_watchdog
        self._now = now

    @property
    def last(self) -> Death | None:
        """The latest one."""
        return self.recent[-1] if self.recent else None

    def cause(self, status: int, reason: str) -> str:
        """Why a process has ended; `reason` is why this server has killed it, if it has."""
        return attributed_cause(status, reason, self.kernel, self._now())

    def report(self, handle: WorkerHandle, cause: str, served: Sequence[CellReading], *, level: int) -> Death:
        """Log the end of a worker, with an error id for the pages of the requests that it was serving."""
        error_id = new_error_id() if served else ""
        log.log(level, "worker %d of %s ended: %s", handle.pid, self._group, cause)
        for cell in served:
            client = ", whose client had disconnected," if cell.client == GONE else ""
            log.error(
                "error id %s: worker %d was serving %s%s for %.3f s when it ended: %s",
                error_id, handle.pid, without_query(cell.request_line), client, self._now() - cell.started, cause,
            )
        requests = [without_query(cell.request_line) for cell in served]
        death = Death(
            when=time.time(), pid=handle.pid, generation=handle.generation, cause=cause, error_id=error_id,
            requests=requests, level=level,
        )
        self.recent.append(death)
        self.kinds[kind_of(cause, handle.reason)] += 1
        self._send_to_watchdog(messages.LastLinesRequested(handle.pid))
        return death

    def last_lines(self, pid: int, lines: list[str]) -> None:
        """The watchdog's answer. Logged again, since the lines themselves may stand far above in the log."""
        death = next((death for death in reversed(self.recent) if death.pid == pid), None)
        if death is None or not lines:
            return
        death.last_lines = lines
        prefix = f"error id {death.error_id}: " if death.error_id else ""
        log.log(death.level, "%sthe last lines that worker %d wrote:", prefix, pid)
        for line in lines:
            log.log(death.level, "  | %s", line)
