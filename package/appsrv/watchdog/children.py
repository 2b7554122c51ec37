"""The watchdog's books: of each application group, which preloaders live and which generation serves.

What a new server process has to be told after the death of the last one. Starts and signals nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from appsrv.apps.app_group import AppGroup
from appsrv.ipc.channel import Channel
from appsrv.logs.server_log import ServerLog
from appsrv.system.users import Identity


@dataclass(eq=False)
class Child:
    """A server or a preloader, as its parent knows it.

    `spare` is the server's end of its channel, kept for the next server; `ended` its wait status, where it has ended
    before anybody had asked for it.
    """

    pid: int
    channel: Channel
    started: float
    book: GroupBook | None = None
    generation: int = 0
    serial: int = 0
    spare: socket.socket | None = None
    ended: int | None = None


@dataclass(eq=False)
class GroupBook:
    """One group. `last_generation` is the last one that was tried, `serving` the one that serves (0: none yet).

    `early` is the preloader that was started before the server could ask for it, `multiproc` the directory of the
    application's own metrics, if there is one.
    """

    group: AppGroup
    identity: Identity | None
    log: ServerLog
    multiproc: str = ""
    last_generation: int = 0
    serving: int = 0
    early: Child | None = None
    preloaders: dict[int, Child] = field(default_factory=dict)

    def to_go_on_with(self) -> Child | None:
        """The preloader that a new server goes on with: that of the generation that serves, if it lives."""
        usable = [child for child in self.preloaders.values() if child.spare is not None and child is not self.early]
        return min(usable, key=lambda child: (child.generation != self.serving, child.generation), default=None)

    def others(self, chosen: Child | None) -> Iterator[Child]:
        """Preloaders that the dead server has had, and which nobody needs any more."""
        return (child for child in self.preloaders.values() if child is not chosen and child is not self.early)

    def generation_for(self, alive: Child | None) -> int:
        """What a new server begins with; 0: with the first."""
        if alive is not None:
            return alive.generation
        return 0 if self.early is not None else self.serving or self.last_generation
