"""All application groups of the server: made, found by name, booted, and asked together.

What one group does is its manager's business; whose a request is, the router's. Decides only how the first boots of
all of them make that of the instance: it has booted when each of them has, or cannot, and fails when none can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from appsrv import message
from appsrv.app_group import AppGroup
from appsrv.backend import BackEnd
from appsrv.config import Settings
from appsrv.frontend import FrontEnd
from appsrv.handles import Failure
from appsrv.hosting import needs_routes, routes_of
from appsrv.http_syntax import RequestHead
from appsrv.limits import limits_of
from appsrv.loader import is_below
from appsrv.manager import Manager
from appsrv.parking import parking
from appsrv.route_table import RouteTable
from appsrv.routes import Routes
from appsrv.scoreboard import Scoreboard

log = logging.getLogger("appsrv.groups")

TellWatchdog = Callable[[message.Message], None]
Stacks = Callable[[str, int], list[str]]


class Groups(Mapping[str, Manager]):
    """Managers by the names of their groups. `stacks` gives those of a process, by concurrency model and pid."""

    def __init__(
        self, settings: Settings, frontend: FrontEnd, tell_watchdog: TellWatchdog, stacks: Stacks, *, development: bool
    ) -> None:
        self._settings = settings
        self._frontend = frontend
        self._tell_watchdog = tell_watchdog
        self._stacks = stacks
        self._development = development
        self._table: RouteTable | None = None
        self._routes = Routes()
        self._managers: dict[str, Manager] = {}
        self._cannot_boot: dict[str, Failure] = {}
        self._has_booted = False

    def __getitem__(self, name: str) -> Manager:
        return self._managers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._managers))

    def __len__(self) -> int:
        return len(self._managers)

    # -- which there are ----------------------------------------------------------------------------------------------

    def add_all(self, orders: Sequence[message.ServeGroup]) -> None:
        """Those there are from the beginning; they tell whether requests have to be routed."""
        groups = [AppGroup.from_json(order.group) for order in orders]
        if needs_routes(groups, self._settings):
            self._table = RouteTable.create()
            self._frontend.route = self._route
        for order in orders:
            self.add(order)
        if self._table is None:
            (self._frontend.only,) = self._frontend.backends
        self._write_routes()

    def _write_routes(self) -> None:
        if self._table is not None:
            self._routes = routes_of(manager.group for manager in self._managers.values())
            self._table.write(self._routes)

    def _route(self, head: RequestHead) -> BackEnd | None:
        """Whose the request is."""
        name = self._routes.find(head.variables.get("HTTP_HOST", ""), head.variables["PATH_INFO"])
        return self._managers[name].backend if name is not None else None

    def add(self, order: message.ServeGroup) -> Manager:
        """An application group with everything that is its own."""
        group = AppGroup.from_json(order.group)
        settings = group.settings
        board = Scoreboard.create(slots_for(settings), settings.concurrency)
        backend = BackEnd(self._frontend, parking(self._settings.ready_queue, board), limits_of(self._settings))
        manager = self._managers[group.name] = Manager(
            group, self, development=self._development, board=board, backend=backend,
            tell_watchdog=self._tell_watchdog, trace=partial(self._stacks, settings.model),
            routes=() if self._table is None else [self._table.fd],
        )
        self._frontend.backends.append(backend)
        return manager

    def boot(self, orders: Sequence[message.ServeGroup]) -> None:
        """Start the first generations, or go on with those that another server has had."""
        for manager, order in zip(list(self._managers.values()), orders, strict=True):
            manager.boot(order.generation, order.last_generation, have_preloader=order.have_preloader)

    def below(self, prefix: str) -> list[Manager]:
        """Those whose names are at or below a path; all for `/`."""
        return [manager for name, manager in self._managers.items() if is_below(name, prefix)]

    # -- how they boot ------------------------------------------------------------------------------------------------

    def booted(self, group: Manager) -> None:
        """The group serves."""
        self._cannot_boot.pop(group.name, None)
        self._check_booted()

    def boot_failed(self, group: Manager, failure: Failure) -> None:
        """The group's first generation cannot boot; where others are served, they do not feel it."""
        self._cannot_boot[group.name] = failure
        if not self._has_booted and len(self._cannot_boot) == len(self._managers):
            self._tell_watchdog(message.BootFailed(failure.message, failure.traceback, failure.exit_code))
        elif len(self._managers) > 1:
            log.error("%s is not served until its code is mended; other applications are", group.name)
            self._check_booted()

    def _check_booted(self) -> None:
        open_ones = [m for m in self._managers.values() if not (m.booted or m.name in self._cannot_boot)]
        if self._has_booted or open_ones:
            return
        self._has_booted = True
        for name in self._cannot_boot:
            self._managers[name].go_on_broken()
        self._tell_watchdog(message.Booted())

    # -- all together -------------------------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Whether any request is being served."""
        return any(manager.workers.busy() for manager in self._managers.values())

    def look(self) -> int:
        """Requests that no worker has taken, as counted now."""
        return sum(manager.look() for manager in self._managers.values())

    def process_exited(self, pid: int, status: int) -> None:
        """The watchdog has reaped a preloader, or a worker whose preloader is gone."""
        for manager in self._managers.values():
            manager.process_exited(pid, status)

    def last_words(self, pid: int, lines: list[str]) -> None:
        """What a process that has died wrote last."""
        for manager in self._managers.values():
            manager.deaths.last_words(pid, lines)

    def of_worker(self, pid: int) -> Manager | None:
        """The group that this process is a worker of."""
        managers = self._managers.values()
        return next((m for m in managers if any(w.pid == pid > 0 for w in m.workers.values())), None)

    def workers_left(self, counts: Callable[[Any], bool]) -> bool:
        """Whether there are workers that count."""
        return any(counts(worker) for manager in self._managers.values() for worker in manager.workers.values())

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
    """Room on the scoreboard for a full pool, its successors and those that are still retiring."""
    return 3 * (settings.max_pool_size + settings.max_pool_size) + 2
