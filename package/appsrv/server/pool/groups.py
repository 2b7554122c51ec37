"""All application groups of the server: makes, finds, boots and drops them, and passes on what concerns all of them.

The instance has booted when each group has booted or cannot boot; its boot has failed when no group can. Does not know
how one group is run (`manager`), nor how a route is matched (`routes`).
"""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gevent

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import is_below
from appsrv.apps.hosting import needs_routes, routes_of
from appsrv.apps.monkey_patched import cells_for
from appsrv.apps.routes import Routes
from appsrv.apps.shared_routes import RouteTable
from appsrv.http.syntax import RequestHead
from appsrv.ipc import messages
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.frontend.frontend import FrontEnd
from appsrv.server.frontend.parking import parking
from appsrv.server.pool.group_context import GroupContext, GroupEvents, unlimited_room
from appsrv.server.pool.handles import Failure, signal_or_delegate
from appsrv.server.pool.manager import Manager
from appsrv.server.pool.shared_capacity import SharedCapacity
from appsrv.settings.request_limits import limits_of
from appsrv.settings.table import Settings

log = logging.getLogger("appsrv.groups")

# How many applications are loaded for the first time at the same time.
BOOT_AT_ONCE = 2
END_POLL_SECONDS = 0.05

SendToWatchdog = Callable[[Message], None]
Stacks = Callable[[str, int], list[str]]


class Groups(Mapping[str, Manager]):
    """The managers by the names of their groups. `stacks` returns the stacks of a process (concurrency model, pid)."""

    def __init__(
        self, settings: Settings, frontend: FrontEnd, send_to_watchdog: SendToWatchdog, stacks: Stacks, *,
        now: Callable[[], float], development: bool,
    ) -> None:
        self._settings = settings
        self._frontend = frontend
        self._send_to_watchdog = send_to_watchdog
        self._stacks = stacks
        self._now = now
        self._development = development
        self._capacity = SharedCapacity(settings.max_pool_size)
        self._table: RouteTable | None = None
        self._routes = Routes()
        self._lasting_problems: Mapping[str, str] = {}
        self.problems: Mapping[str, str] = {}
        """Why applications are not served, by their names."""
        self._managers: dict[str, Manager] = {}
        self._leaving: list[Manager] = []
        self._to_boot: deque[tuple[Manager, messages.ServeGroup]] = deque()
        self._loading: set[Manager] = set()
        self._cannot_boot: dict[str, Failure] = {}
        self._has_booted = False

    def __getitem__(self, name: str) -> Manager:
        return self._managers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._managers))

    def __len__(self) -> int:
        return len(self._managers)

    # -- adding and dropping groups -----------------------------------------------------------------------------------

    def add_all(self, orders: Sequence[messages.ServeGroup], problems: Mapping[str, str]) -> None:
        """Add the groups of the start; their settings decide whether requests have to be routed.

        `problems`: why other applications, by name, are not served.
        """
        where = self._settings.apps_directory
        self._lasting_problems = {name: why for name, why in problems.items() if os.path.dirname(name) != where}
        self.problems = problems
        groups = [AppGroup.from_json(order.group) for order in orders]
        if needs_routes(groups, self._settings):
            self._table = RouteTable.create()
            self._frontend.route = self._route
        for group in groups:
            self._make(group)
        if self._table is None:
            (self._frontend.only,) = self._frontend.backends
        self._write_routes()

    def _write_routes(self) -> None:
        if self._table is not None:
            self._routes = routes_of(manager.group for manager in self._managers.values())
            self._table.write(self._routes)

    def _route(self, head: RequestHead) -> BackEnd | None:
        """The back end of the group that serves this request."""
        name = self._routes.find(head.variables.get("HTTP_HOST", ""), head.variables["PATH_INFO"])
        return self._managers[name].backend if name is not None else None

    def add(self, group: AppGroup) -> Manager:
        """Serve one more application from now on."""
        order = messages.ServeGroup(group.to_json())
        self._send_to_watchdog(order)
        manager = self._make(group)
        self._write_routes()
        # Many applications may be added at the same time, but only some of them are loaded at the same time.
        self._to_boot.append((manager, order))
        self._boot_next()
        return manager

    def drop(self, name: str) -> None:
        """Serve this application no more: requests in progress are finished, requests that wait are routed again."""
        leaving = self._managers.pop(name)
        self._capacity.needs_none(name)
        self._cannot_boot.pop(name, None)
        self._to_boot = deque(waiting for waiting in self._to_boot if waiting[0] is not leaving)
        self._leaving.append(leaving)
        self._write_routes()
        log.info("%s is not served any more", name)
        leaving.close("its application is not served any more")
        gevent.spawn(self._discard_when_ended, leaving)
        self.load_ended(leaving)
        self._check_booted()

    def report_problems(self, problems: Mapping[str, str]) -> None:
        """Log why applications are not served: each reason once, and again when it has become another one."""
        for name, problem in problems.items():
            if self.problems.get(name) != problem:
                log.error("%s is not served: %s", name, problem)
        self.problems = {**self._lasting_problems, **problems}

    def _discard_when_ended(self, leaving: Manager) -> None:
        while not leaving.has_ended:
            self._frontend.close_idle(leaving.backend)
            leaving.backend.route_again()
            gevent.sleep(END_POLL_SECONDS)
        self._leaving.remove(leaving)
        leaving.discard()
        self._frontend.backends.remove(leaving.backend)
        if leaving.name not in self._managers:
            self._send_to_watchdog(messages.DropGroup(leaving.name))

    def _make(self, group: AppGroup) -> Manager:
        """Make the manager of a group, with its scoreboard, queue and back end."""
        settings = group.settings
        board = Scoreboard.create(slots_for(settings), cells_for(settings, development=self._development))
        # The back end exists before its manager, which acts through it.
        backend = BackEnd(
            self._frontend, parking(self._settings.ready_queue, board, self._now), limits_of(self._settings),
            admit=lambda: manager.queue.admit(), busy=lambda: manager.workers.busy(),
            whole_bodies=settings.buffers_bodies, clock=self._now,
        )

        def stacks(pid: int) -> list[str]:
            # An application that is monkey-patched runs with another concurrency model than the one in the settings.
            return self._stacks(manager.preloaders.model or settings.model, pid)

        events = GroupEvents(
            booted=lambda: self.booted(manager),
            boot_failed=lambda failure: self.boot_failed(manager, failure),
            load_ended=lambda: self.load_ended(manager),
            observed=lambda wants_room: self.observed(manager, wants_room=wants_room),
            process_ended=lambda: self._process_ended(manager),
        )
        manager = self._managers[group.name] = Manager(
            GroupContext(
                group, development=self._development, board=board, backend=backend, events=events,
                send_to_watchdog=self._send_to_watchdog, stacks_of=stacks, now=self._now,
                routes=() if self._table is None else [self._table.fd],
                room=self._room_of(group.name) if self._table is not None else unlimited_room,
            )
        )
        self._frontend.backends.append(backend)
        return manager

    def _process_ended(self, manager: Manager) -> None:
        """Drop the metrics of processes that have ended from the directory that they share with the living ones."""
        if self._settings.prometheus_multiproc and manager.multiproc:
            # Imported here: most instances have no metrics of their own.
            from appsrv import metrics

            metrics.forget_dead(manager.multiproc)

    def _room_of(self, name: str) -> Callable[[], int]:
        return lambda: self._capacity.room(self._alive(), name)

    def boot(self, orders: Sequence[messages.ServeGroup]) -> None:
        """Start the first generations, or continue with those of the server before this one."""
        # A server before this one has reported to the watchdog that the instance has booted.
        self._has_booted = any(order.generation for order in orders)
        self._to_boot.extend(zip(list(self._managers.values()), orders, strict=True))
        self._boot_next()
        self._check_booted()

    def _boot_next(self) -> None:
        """Load the next applications. Each load occupies a processor for a while, so only a few run at a time."""
        while self._to_boot and len(self._loading) < BOOT_AT_ONCE:
            manager, order = self._to_boot.popleft()
            self._loading.add(manager)
            manager.boot(order.generation, order.last_generation, have_preloader=order.have_preloader)
            if not manager.loading:
                self._loading.discard(manager)

    @property
    def routed(self) -> bool:
        """Whether requests have to be routed, since there may be several groups."""
        return self._table is not None

    def below(self, prefix: str) -> list[Manager]:
        """The group with this name, else the groups whose names or directories are at or below this path."""
        if prefix in self._managers:
            return [self._managers[prefix]]
        managers = self._managers.values()
        return [m for m in managers if any(is_below(place, prefix) for place in (m.name, m.group.spec.root))]

    # -- first boots --------------------------------------------------------------------------------------------------

    def booted(self, group: Manager) -> None:
        """The group has booted."""
        self._cannot_boot.pop(group.name, None)
        self._check_booted()

    def boot_failed(self, group: Manager, failure: Failure) -> None:
        """The group's first generation cannot boot. This does not affect the other groups, if there are any."""
        self._cannot_boot[group.name] = failure
        nothing_else = len(self._cannot_boot) == len(self._managers) and self._settings.apps_directory is None
        if nothing_else and not self._has_booted:
            failed = messages.BootFailed(failure.message, failure.traceback, failure.exit_code, failure.pid)
            self._send_to_watchdog(failed)
            return
        log.error("%s is not served until its code is mended; all other applications are", group.name)
        group.continue_broken()
        self._check_booted()

    def load_ended(self, group: Manager) -> None:
        """The group's application is loaded or cannot be loaded: load the next one."""
        self._loading.discard(group)
        # In a greenlet of its own: a load that fails at once calls this function again, as deep as there are groups.
        gevent.spawn(self._boot_next)

    def _check_booted(self) -> None:
        if not self._has_booted and all(manager.booted for manager in self._managers.values()):
            self._has_booted = True
            modules = [manager.preloaders.settings_module for manager in self._managers.values()]
            self._send_to_watchdog(messages.Booted(modules[0] if len(modules) == 1 else ""))

    # -- shared capacity ----------------------------------------------------------------------------------------------

    def _alive(self) -> dict[str, int]:
        return {name: manager.alive for name, manager in self._managers.items()}

    def observed(self, group: Manager, *, wants_room: bool) -> None:
        """A group has read its load; one in which requests wait may take the place of another group's worker."""
        if not wants_room or self._table is None:
            self._capacity.needs_none(group.name)
            return
        loads = {name: manager.group_load() for name, manager in self._managers.items()}
        eviction = self._capacity.request_room(group.name, loads, self._now())
        if eviction is not None:
            self._managers[eviction.group].evict(eviction.serial, group.name)

    # -- all together -------------------------------------------------------------------------------------------------

    def all(self) -> list[Manager]:
        """Also those whose application is not served any more and whose processes have not all ended."""
        return [*self._managers.values(), *self._leaving]

    def busy(self) -> bool:
        """Whether any request is being served."""
        return any(manager.workers.busy() for manager in self.all())

    def count_waiting(self) -> int:
        """Requests that no worker has taken, counted now."""
        return sum(manager.count_waiting() for manager in self._managers.values())

    def resize(self, change: int) -> None:
        """Have each group keep so many workers more, or fewer, than now."""
        for manager in self.values():
            manager.resize(change)

    def reopen_logs(self) -> None:
        """Have each worker open its access log again, before its next line."""
        for manager in self.values():
            for worker in manager.workers.values():
                worker.slot.reopen_logs()

    def announce_stop(self) -> None:
        """Have probes answer that the instance stops."""
        for manager in self.values():
            manager.announce_stop()

    def close_all(self) -> None:
        """Start no process any more, let each worker finish and retire, and end the preloaders."""
        for manager in self.values():
            manager.close()

    def kill_all(self, reason: str) -> None:
        """Kill all workers."""
        for manager in self.values():
            manager.kill_all(reason)

    # -- what the watchdog reports ------------------------------------------------------------------------------------

    def preloader_started(self, msg: messages.PreloaderStarted, fd: int) -> None:
        """A preloader runs; `fd` is the channel to it."""
        manager = self._asked_by(msg)
        if manager is not None:
            manager.preloader_started(msg, fd)
        else:
            # A server before this one has asked for it, and has ended in between.
            os.close(fd)
            signal_or_delegate(msg.pid, signal.SIGTERM)

    def preloader_not_started(self, msg: messages.PreloaderNotStarted) -> None:
        """A preloader could not be started."""
        manager = self._asked_by(msg)
        if manager is not None:
            manager.preloader_not_started(msg)

    def _asked_by(self, msg: messages.PreloaderStarted | messages.PreloaderNotStarted) -> Manager | None:
        """The manager that has asked for this preloader.

        An application whose settings have changed is dropped and added anew, under the same name. The watchdog answers
        in the order of the requests, so the first answer belongs to the manager that was dropped.
        """
        asked = (msg.generation, msg.serial)
        dropped = (m for m in self._leaving if m.name == msg.group and asked in m.preloaders.asked)
        return next(dropped, self._managers.get(msg.group))

    def process_exited(self, pid: int, status: int) -> None:
        """The watchdog has reaped a preloader, or a worker whose preloader is gone."""
        for manager in self.all():
            manager.process_exited(pid, status)

    def last_lines(self, pid: int, lines: list[str]) -> None:
        """The last lines that a dead process has written."""
        for manager in self.all():
            manager.deaths.last_lines(pid, lines)

    # -- questions ----------------------------------------------------------------------------------------------------

    def of_worker(self, pid: int) -> Manager | None:
        """The group that this process is a worker of."""
        managers = self._managers.values()
        return next((m for m in managers if any(w.pid == pid > 0 for w in m.workers.values())), None)

    def workers_left(self, counts: Callable[[Any], bool]) -> bool:
        """Whether there are workers that count."""
        return any(counts(worker) for manager in self.all() for worker in manager.workers.values())

    @property
    def state(self) -> str:
        """One word for all: the most remarkable one."""
        states = {manager.state for manager in self._managers.values()}
        return next((state for state in ("restarting", "booting", "broken") if state in states), "running")

    def one_line(self) -> str:
        """For the service manager."""
        managers = list(self._managers.values())
        states = [manager.worker_state(handle) for manager in managers for handle in manager.workers.values()]
        waiting = sum(manager.waiting for manager in managers)
        return f"{self.state}: {len(states)} workers, {states.count('busy')} busy, {waiting} waiting"


def slots_for(settings: Settings) -> int:
    """How many workers of an application can have a process at a time: without a free slot none is forked.

    A worker that retires keeps its slot until its process has ended, which may take `stop_timeout`; until then its
    successors need slots of their own. So there is room for a full pool and for those of the five restarts before,
    whose workers have all retired and not ended yet. A development server has a pool of one and restarts with each
    save of a file: for its sake there are two slots more.
    """
    return 6 * settings.max_pool_size + 2
