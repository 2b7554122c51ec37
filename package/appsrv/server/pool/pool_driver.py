"""The pool driver: gives the pool the readings of the load, and carries out the pool's decisions on the workers.

Enforces the limits of time, memory and the queue at each reading, and reports the end of a worker to the pool. Does not
know how an application is loaded, nor when a restart is due (`lifecycle`).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

import gevent

from appsrv.ipc.scoreboard import CellReading
from appsrv.server.pool.admission import Admission
from appsrv.server.pool.disconnects import Disconnects
from appsrv.server.pool.group_context import GroupContext
from appsrv.server.pool.handles import WorkerHandle
from appsrv.server.pool.load_monitor import LoadMonitor, View
from appsrv.server.pool.memory_limits import MemoryLimits, family_share_above, share_above
from appsrv.server.pool.pool import Action, Kill, Pool, RestartDone, RestartFailed, Retire, SpawnWorker, WorkerState
from appsrv.server.pool.request_queue import RequestQueue
from appsrv.server.pool.time_limits import TimeLimits
from appsrv.server.pool.worker_deaths import Deaths
from appsrv.server.pool.workers import NoRoom, WorkerEvents, Workers
from appsrv.system.exit_status import UNSEEN
from appsrv.system.oom_kills import OutOfMemoryKills

log = logging.getLogger("appsrv.manager")


class PoolEvents(NamedTuple):
    """The functions that are called when the pool or the processes have changed.

    `spawn`: make the process of this worker. `restart_done`, `restart_failed`: the pool has finished or given up the
    roll to a generation. `worker_ended`: a worker has ended (the cause). `observed`: the pool has decided on a reading
    of the load. `has_booted`: whether the group has ever served.
    """

    spawn: Callable[[WorkerHandle], None]
    restart_done: Callable[[RestartDone], None]
    restart_failed: Callable[[RestartFailed], None]
    worker_ended: Callable[[str], None]
    observed: Callable[[View], None]
    has_booted: Callable[[], bool]


class PoolDriver:
    """`workers`, `queue` and `deaths` are read by the admin's reports."""

    def __init__(
        self, context: GroupContext, pool: Pool, kernel: OutOfMemoryKills, *, events: PoolEvents,
        worker_events: WorkerEvents,
    ) -> None:
        group, settings, now = context.group, context.group.settings, context.now
        self._name = group.name
        self._development = context.development
        self._backend = context.backend
        self._now = now
        self._pool = pool
        self._events = events
        self.deaths = Deaths(group.name, send_to_watchdog=context.send_to_watchdog, kernel=kernel, now=now)
        self.workers = Workers(
            group.name, board=context.board, backend=context.backend, events=worker_events, now=now,
            development=context.development, trusted_proxies=settings.forwarded_allow_ips,
        )
        self.monitor = LoadMonitor(self.workers, context.backend.parking, report=self._observe, now=now)
        self.queue = RequestQueue(
            Admission(settings.max_request_queue_size), self.monitor, context.backend,
            max_seconds=settings.max_request_queue_time, ready=self._ready_serials, now=now,
            coming=lambda: pool.coming() * settings.concurrency,
        )
        self._time_limits = TimeLimits(
            group.name, slow=settings.slow_request_time, most=settings.max_request_time,
            concurrency=settings.concurrency, workers=self.workers, backend=context.backend, condemn=self._condemn,
            trace=context.stacks_of, now=now,
        )
        generic = settings.start_command is not None
        # The process of a start_command sends interim responses of its own, and sees by itself that a client has gone.
        self._disconnects = Disconnects(group.name, self.workers, context.backend, probes=not generic, now=now)
        self._memory_limits = MemoryLimits(
            settings.memory_limit, settings.hard_memory_limit, self.workers, serving=self._ready_serials,
            condemn=self._condemn, measure=family_share_above if generic else share_above,
        )

    def ready_workers(self) -> Iterator[WorkerHandle]:
        """The workers that serve."""
        for serial, worker in self._pool.workers.items():
            if worker.state is WorkerState.READY and serial in self.workers:
                yield self.workers[serial]

    def _ready_serials(self) -> list[int]:
        return [handle.serial for handle in self.ready_workers()]

    def _condemn(self, serial: int, reason: str) -> None:
        self.act(self._pool.condemn(serial, self._now(), reason))

    def stop(self) -> None:
        """Read the load no more."""
        self.monitor.stop()
        self._memory_limits.stop()

    # -- the decisions of the pool ------------------------------------------------------------------------------------

    def act(self, actions: list[Action]) -> None:
        """Carry out these decisions."""
        for action in actions:
            match action:
                case SpawnWorker():
                    self._spawn(action)
                case Retire():
                    self.workers.retire(action.serial, action.reason)
                    self._disconnects.log_departed(action.serial)
                case Kill():
                    self.workers.kill(action.serial, action.reason)
                case RestartDone():
                    self._events.restart_done(action)
                case RestartFailed():
                    self._events.restart_failed(action)

    def _spawn(self, action: SpawnWorker) -> None:
        try:
            handle = self.workers.make(action)
        except NoRoom as error:
            reason = str(error)
            # Not from in here: the pool is in the middle of a list of decisions, and another one may follow from this.
            gevent.spawn(lambda: self.act(self._pool.gone(action.serial, self._now(), reason)))
            return
        self._events.spawn(handle)

    # -- readings of the load -----------------------------------------------------------------------------------------

    def _observe(self, view: View) -> None:
        self.workers.flush()
        self.deaths.kernel.update(view.now)
        self.act(self._pool.observe(view.loads, view.waiting, view.now))
        self._events.observed(view)
        for handle in self.workers.lost(view.now):
            handle.reason = UNSEEN
            self.worker_exited(handle.serial, 0)
        self._time_limits.check(view.now)
        self._disconnects.check(view.now)
        self.queue.enforce_limits(view)

    # -- ends of workers ----------------------------------------------------------------------------------------------

    def forked(self, serial: int, pid: int, error: str) -> None:
        """A worker has its process; `pid` is -1 when fork(2) failed."""
        handle = self.workers.get(serial)
        if handle is None:
            return
        if pid == -1:
            log.error("cannot fork a worker of %s: %s", self._name, error)
            self.not_made(serial, error)
        else:
            self.workers.forked(handle, pid)

    def not_made(self, serial: int, reason: str) -> None:
        """The worker cannot have a process, for a reason that may be the application's."""
        self.workers.forget(self.workers.get(serial))
        self.act(self._pool.gone(serial, self._now(), reason))

    def forget_not_forked(self, generation: int) -> None:
        """The preloader of this generation has ended: forget the workers that it was ordered to fork and has not."""
        for worker in [w for w in self.workers.values() if not w.pid and w.generation == generation]:
            self.workers.forget(worker)
            self.act(self._pool.never_forked(worker.serial, self._now()))

    def worker_exited(self, serial: int, status: int) -> None:
        """A worker has ended; `status` is the result of waitpid(2)."""
        handle = self.workers.get(serial)
        if handle is None:
            return
        # The preloader or the watchdog reports the end, on another socket than that of the worker. The worker's last
        # messages, such as the reason why it could not start, may still be unread.
        self.workers.receive(handle)
        cause = self.deaths.cause(status, handle.reason)
        served = [cell for cell in handle.slot.read() if cell.cid]
        self._log_end(handle, status, cause, served)
        self.monitor.worker_ended(handle.slot.taken)
        self.workers.forget(handle)
        # If this was the last old worker or the first new one of a restart, the pool decides here that the restart is
        # done or has failed. Only then `worker_ended` checks for a crash loop.
        self.act(self._pool.gone(serial, self._now(), cause, served=bool(served)))
        self._events.worker_ended(cause)

    def _log_end(self, handle: WorkerHandle, status: int, cause: str, served: list[CellReading]) -> None:
        worker = self._pool.workers.get(handle.serial)
        state = worker.state if worker is not None else WorkerState.GONE
        retired = state is WorkerState.RETIRING and not handle.reason and status in (0, signal.SIGTERM)
        asked = status == 0 and not handle.upstream_ended
        if state is WorkerState.READY and asked and not served and not handle.reason:
            log.info("worker %d of %s got a signal to end that appsrv did not send", handle.pid, self._name)
        elif not retired:
            answered = self._time_limits.has_answered
            self._report_death(handle, cause, [c for c in served if not answered(handle.serial, c.cid)])

    def _report_death(self, handle: WorkerHandle, cause: str, served: list[CellReading]) -> None:
        # In development, the framework's command has printed already why it cannot start.
        level = logging.INFO if self._development and not self._events.has_booted() else logging.ERROR
        death = self.deaths.report(handle, cause, served, level=level)
        cids = [(cell.cid, cell.response_begun, cell.request_line) for cell in served]
        self._backend.worker_gone(handle, cids, death.error_id)
        self._backend.recover_lost()
