"""The collaborators that the parts of one group's manager share, and the functions for its events. Data only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gevent

from appsrv.apps.app_group import AppGroup
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.pool.handles import Failure
from appsrv.server.pool.pool import UNLIMITED


def unlimited_room() -> int:
    """The room of the only group of an instance, which has its own limit."""
    return UNLIMITED


class GroupEvents(NamedTuple):
    """The functions that are called for the events of one application group.

    `booted`: the first worker is ready or, where none is kept, the application is loaded. `boot_failed`: the first
    generation cannot boot. `load_ended`: the load that `Lifecycle.boot` has started has succeeded or failed.
    `observed`: the load was read; the argument tells whether requests wait for a worker for which there is no room.
    `process_ended`: a process that had loaded the application has ended.
    """

    booted: Callable[[], None]
    boot_failed: Callable[[Failure], None]
    load_ended: Callable[[], None]
    observed: Callable[[bool], None]
    process_ended: Callable[[], None]


class GroupContext(NamedTuple):
    """`stacks_of` returns the stacks of a process, by its pid. `now` is a monotonic clock.
    `later(seconds, function, *arguments)` calls the function after that time; its result has `kill`. `routes`: the
    descriptor of the route table where an instance may serve several applications, else empty. `room` returns how many
    workers this group may have beyond those of all groups.
    """

    group: AppGroup
    development: bool
    board: Scoreboard
    backend: BackEnd
    send_to_watchdog: Callable[[Message], None]
    stacks_of: Callable[[int], list[str]]
    events: GroupEvents
    now: Callable[[], float]
    later: Callable[..., Any] = gevent.spawn_later
    routes: Sequence[int] = ()
    room: Callable[[], int] = unlimited_room
