"""The manager of one application group: joins its parts, and answers what the admin and the other groups ask.

The numbers are decided by `pool` and carried out by `pool_driver`; `lifecycle` loads the application. Knows no process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from appsrv.server.pool.group_context import GroupContext
from appsrv.server.pool.handles import Failure, RestartOutcome, WorkerHandle
from appsrv.server.pool.lifecycle import Lifecycle
from appsrv.server.pool.limits import pool_limits
from appsrv.server.pool.pool import Pool, WorkerState
from appsrv.server.pool.restarts import Restarts
from appsrv.server.pool.shared_capacity import GroupLoad

log = logging.getLogger("appsrv.manager")


class Manager:
    """One application group. `workers`, `preloaders`, `queue`, `deaths` and `restarts` are read by reports."""

    def __init__(self, context: GroupContext) -> None:
        self.group = context.group
        self.name = context.group.name
        self.settings = context.group.settings
        self.backend = context.backend
        self._now = context.now
        self._pool = Pool(pool_limits(self.settings), room=context.room)
        self._lifecycle = Lifecycle(context, self._pool)
        self._availability = self._lifecycle.availability
        self._driver = self._lifecycle.driver
        self.preloaders = self._lifecycle.preloaders
        self.workers = self._driver.workers
        self.queue = self._driver.queue
        self.deaths = self._driver.deaths
        # What the watchdog reports.
        self.boot = self._lifecycle.boot
        self.preloader_started = self._lifecycle.preloader_started
        self.preloader_not_started = self._lifecycle.preloader_not_started
        self.process_exited = self._lifecycle.process_exited

    # -- the state ----------------------------------------------------------------------------------------------------

    @property
    def restarts(self) -> Restarts:
        """The restarts of this group."""
        return self._lifecycle.restarts

    @property
    def failure(self) -> Failure | None:
        """Why the application cannot be loaded or its workers cannot start, until a worker is ready."""
        return self._availability.failure

    @property
    def booted(self) -> bool:
        """Whether the group has ever served or, where no worker is kept, could have."""
        return self._availability.booted

    @property
    def loading(self) -> bool:
        """Whether the load that `boot` has started still runs."""
        return self._availability.loading

    @property
    def multiproc(self) -> str:
        """The directory of the application's own metrics, if it has one."""
        return self._lifecycle.multiproc

    @property
    def generation(self) -> int:
        """The generation that serves."""
        return self._pool.generation

    @property
    def state(self) -> str:
        """One word for the whole group."""
        ready = any(self._driver.ready_workers())
        if self.restarts.running or self._pool.successor is not None:
            return "restarting"
        if self.failure is not None and not ready:
            return "broken"
        if self._lifecycle.idle_unload.unloaded:
            return "running"
        keeps_none = not self.settings.min_instances or not self._pool.room()
        on_demand = self.booted and keeps_none and not self.spawning
        return "running" if on_demand or ready else "booting"

    def worker_state(self, handle: WorkerHandle) -> str:
        """booting, idle, busy or retiring."""
        worker = self._pool.workers.get(handle.serial)
        if worker is None or worker.state is not WorkerState.READY:
            return worker.state.value if worker is not None else WorkerState.GONE.value
        return "busy" if handle.in_progress else "idle"

    def ready_workers(self) -> Iterator[WorkerHandle]:
        """The workers that serve."""
        return self._driver.ready_workers()

    @property
    def waiting(self) -> int:
        """Requests that no worker had taken at the last reading."""
        return self._driver.monitor.waiting

    def count_waiting(self) -> int:
        """Requests that no worker has taken, as counted now."""
        return self._driver.monitor.read().waiting

    @property
    def min_instances(self) -> int:
        """Workers that are kept even when idle."""
        return self._pool.limits.min_instances

    @property
    def spawning(self) -> int:
        """Workers that boot."""
        return sum(worker.state is WorkerState.BOOTING for worker in self._pool.workers.values())

    @property
    def alive(self) -> int:
        """Workers that boot or serve."""
        return self._pool.alive

    # -- what the admin may order -------------------------------------------------------------------------------------

    def restart(self, parallel: int | None = None, *, stop_first: bool = False) -> RestartOutcome:
        """Start a new generation and roll it in without a gap; returns when it serves alone or has failed.

        `parallel`: how many workers are replaced at a time, if not as the settings say. `stop_first`: the processes of
        the old generation end first, and requests wait meanwhile.
        """
        wanted = self.settings.restart_parallel if parallel is None else parallel
        return self.restarts.ask(min(wanted, self.settings.max_pool_size), stop_first=stop_first)

    def detach(self, pid: int) -> int | None:
        """Let the worker of this pid end, once another one is ready where it is needed; returns its serial."""
        serial = next((serial for serial, worker in self.workers.items() if worker.pid == pid > 0), None)
        if serial is not None:
            self._driver.act(self._pool.detach(serial, self._now(), "it is detached by hand"))
        return serial

    def resize(self, change: int) -> None:
        """Keep so many workers more (or fewer) than now, until the server is started again."""
        before = self._pool.limits.min_instances
        actions = self._pool.resize(change, self._now())
        log.info("%s keeps at least %d workers (%d before)", self.name, self._pool.limits.min_instances, before)
        self._driver.act(actions)

    # -- the other groups ---------------------------------------------------------------------------------------------

    def group_load(self) -> GroupLoad:
        """The load of this group, by which the groups share their room."""
        ready = [worker for worker in self._pool.workers.values() if worker.state is WorkerState.READY]
        idle = {worker.serial: worker.idle_since() for worker in ready if not worker.load.sessions}
        busy = tuple(worker.serial for worker in ready if worker.load.sessions)
        return GroupLoad(self._pool.alive, self.min_instances, self.waiting, idle, busy)

    def evict(self, serial: int, by: str) -> None:
        """Let this worker end, since another group needs its place."""
        self._driver.act(self._pool.evict(serial, self._now(), f"{by} needs its place"))

    def continue_broken(self) -> None:
        """The first generation cannot boot, but other groups serve: requests get 503 until a later load succeeds."""
        self._availability.continue_broken()

    # -- the end ------------------------------------------------------------------------------------------------------

    def code_changed(self, paths: list[str]) -> None:
        """Files of the application have changed (development)."""
        self._lifecycle.reloading.code_changed(paths)

    def announce_stop(self) -> None:
        """Answer health probes with 503 from now on; all other requests are served."""
        self.backend.parking.board.announce_stop()

    def close(self, reason: str = "the server stops") -> None:
        """Start nothing more, and let every worker finish its requests."""
        self._lifecycle.close(reason)

    @property
    def has_ended(self) -> bool:
        """Whether, once closed, no worker and no preloader is left, and none was requested from the watchdog."""
        return not (self.workers or self.preloaders.asked or any(True for _ in self.preloaders))

    def discard(self) -> None:
        """After the end: read the load no more, close the queue and the scoreboard."""
        self._driver.stop()
        self.backend.close()

    def kill_all(self, reason: str) -> None:
        """Kill every worker now."""
        for serial in self.workers:
            self.workers.kill(serial, reason)
