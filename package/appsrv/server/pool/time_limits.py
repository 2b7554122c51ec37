"""Requests that take too long: logged with the stacks of their worker, answered 504, and the worker replaced.

Reads the scoreboard, so that a worker that hangs need not take part. The other requests of a worker with threads or
greenlets are not cut short: each has its own time limit, another worker takes the new requests, and the worker is
killed when only overdue requests are left in it.

The 504 and the worker's own response must not be sent on the same connection. Therefore the process is stopped
(SIGSTOP). While it is stopped, the server checks that no response has begun, writes the 504 and shuts the connection
down for writing. Then the process is killed, or continued if it serves other requests.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import gevent
import psutil

from appsrv.errors import AdminError
from appsrv.ipc.scoreboard import without_query
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.pool.error_pages import overdue_page
from appsrv.server.pool.handles import WorkerHandle, signal_or_delegate
from appsrv.server.pool.workers import Workers
from appsrv.wsgi.request_id import new_error_id

log = logging.getLogger("appsrv.time")

# A process that waits for a processor stops only when it has one; in uninterruptible sleep it does not stop at all.
STOP_SECONDS, STOP_POLL_SECONDS = 2.0, 0.001

Trace = Callable[[int], list[str]]


class TimedRequest(NamedTuple):
    """One request in one worker: its cell, its connection and when the worker took it (monotonic)."""

    serial: int
    cell: int
    cid: int
    started: float


class TimeLimits:
    """`slow` and `most` are the settings `slow_request_time` and `max_request_time`. `trace`: stacks of a process."""

    def __init__(
        self, group: str, *, slow: float, most: float, concurrency: int, workers: Workers, backend: BackEnd,
        condemn: Callable[[int, str], None], trace: Trace, now: Callable[[], float],
    ) -> None:
        """`condemn` (serial, reason): replace the worker, which serves its other requests to the end."""
        self._group = group
        self._slow = slow
        self._most = most
        self._least = min(filter(None, (slow, most)), default=0.0)
        self._concurrency = concurrency
        self._workers = workers
        self._backend = backend
        self._condemn = condemn
        self._trace = trace
        self._now = now
        self._logged: set[TimedRequest] = set()
        # Without a limit: a debugger has held the worker at the terminal, or the connection has switched protocols.
        self._exempt: set[TimedRequest] = set()
        self._ending: set[TimedRequest] = set()
        self._answered: set[TimedRequest] = set()

    def check(self, now: float) -> None:
        """Enforce the limits on the requests that were in progress at the last reading of the scoreboard."""
        if not (self._slow or self._most):
            return
        requests = list(self._requests())
        self._exempt.update(request for request in requests if self._workers[request.serial].slot.at_terminal)
        for remembered in (self._exempt, self._logged, self._ending, self._answered):
            remembered.intersection_update(requests)
        for request in requests:
            if request in self._exempt:
                continue
            age = now - request.started
            if age > self._least and self._has_switched(request):
                self._exempt.add(request)
            elif self._most and age > self._most and request not in self._ending:
                self._ending.add(request)
                gevent.spawn(self._end, request)
            elif self._slow and age > self._slow and request not in self._logged:
                self._logged.add(request)
                gevent.spawn(self._log_stacks, request, f"slow_request_time ({self._slow:g} s)", logging.WARNING)
        self._kill_overdue_workers()

    def _requests(self) -> Iterator[TimedRequest]:
        for serial, handle in self._workers.items():
            for cell, (cid, started) in handle.in_progress.items():
                yield TimedRequest(serial, cell, cid, started)

    def _has_switched(self, request: TimedRequest) -> bool:
        """Whether the connection has switched to another protocol (WebSocket)."""
        return request not in self._ending and self._workers[request.serial].slot.cell(request.cell).read().switched

    def _kill_overdue_workers(self) -> None:
        """Kill the workers in which only requests are left that the server has answered in their place."""
        for serial, count in Counter(request.serial for request in self._answered).items():
            handle = self._workers[serial]
            if count == len(handle.in_progress) and (handle.slot.retiring or count == self._concurrency):
                self._workers.kill(serial, self._reason)

    @property
    def _reason(self) -> str:
        return f"a request took longer than max_request_time ({self._most:g} s)"

    def has_answered(self, serial: int, cid: int) -> bool:
        """Whether the server has answered the request on this connection in the place of this worker."""
        return any((request.serial, request.cid) == (serial, cid) for request in self._answered)

    # -- one request --------------------------------------------------------------------------------------------------

    def _end(self, request: TimedRequest) -> None:
        error_id = new_error_id()
        self._log_stacks(request, f"max_request_time ({self._most:g} s), error id {error_id}", logging.ERROR)
        handle = self._still_served(request)
        if handle is None:
            return
        if self._stop(handle.pid) and self._still_served(request):
            self._answer(request, handle, error_id)
            self._answered.add(request)
        if self._still_served(request):
            if self._concurrency == 1:
                self._workers.kill(request.serial, self._reason)
            else:
                self._condemn(request.serial, self._reason)
        signal_or_delegate(handle.pid, signal.SIGCONT)

    def _answer(self, request: TimedRequest, handle: WorkerHandle, error_id: str) -> None:
        connection = self._backend.connections.get(request.cid)
        if connection is None:
            return
        cell = handle.slot.cell(request.cell).read()
        if cell.response_begun:
            self._backend.frontend.close(connection, reset=True)
        else:
            self._backend.frontend.answer_now(connection, overdue_page(error_id), cell.request_line.encode())

    def _log_stacks(self, request: TimedRequest, limit: str, level: int) -> None:
        handle = self._still_served(request)
        if handle is None:
            return
        line = handle.slot.cell(request.cell).read().request_line
        age = self._now() - request.started
        try:
            stacks = self._trace(handle.pid)
        except AdminError as error:
            stacks = [f"its stacks cannot be read: {error}"]
        log.log(
            level, "worker %d of %s has been serving %s for %.1f s, longer than %s; its stacks:",
            handle.pid, self._group, without_query(line), age, limit,
        )
        for stack_line in stacks:
            log.log(level, "  %s", stack_line)

    def _still_served(self, request: TimedRequest) -> WorkerHandle | None:
        handle = self._workers.get(request.serial)
        if handle is None or handle.slot.brief()[request.cell][:2] != (request.cid, request.started):
            return None
        return handle

    def _stop(self, pid: int) -> bool:
        """Stop a process; False when it does not stop, as in a system call that cannot be interrupted."""
        signal_or_delegate(pid, signal.SIGSTOP)
        deadline = self._now() + STOP_SECONDS
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            while self._now() < deadline:
                if process.status() == psutil.STATUS_STOPPED:
                    return True
                gevent.sleep(STOP_POLL_SECONDS)
        return False
