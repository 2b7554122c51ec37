"""The collaborators that the parts of one group's manager share, and the functions for its events. Data only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appsrv.apps.app_group import AppGroup
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.pool.handles import Failure


@dataclass(frozen=True)
class GroupEvents:
    """The functions that are called for the events of one application group.

    `booted`: the first worker is ready or, where none is kept, the application is loaded. `boot_failed`: the first
    generation cannot boot. `load_ended`: the load that `Lifecycle.boot` has started has succeeded or failed.
    `observed`: the load was read; the argument tells whether requests wait for a worker for which there is no room.
    """

    booted: Callable[[], None]
    boot_failed: Callable[[Failure], None]
    load_ended: Callable[[], None]
    observed: Callable[[bool], None]


@dataclass(frozen=True)
class GroupContext:
    """`stacks_of` returns the stacks of a process, by its pid. `now` is a monotonic clock. `routes`: the descriptor of
    the route table where an instance may serve several applications, else empty.
    """

    group: AppGroup
    development: bool
    board: Scoreboard
    backend: BackEnd
    send_to_watchdog: Callable[[Message], None]
    stacks_of: Callable[[int], list[str]]
    events: GroupEvents
    now: Callable[[], float]
    routes: Sequence[int] = ()
