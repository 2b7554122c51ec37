"""Records of the watchdog: each application group with its preloaders, and which generation of it serves.

From them a new server process learns what the last one knew. Starts no process and sends no signal.
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
class PreloaderRecord:
    """One preloader process, or the worker that it has become (`serial` is not 0).

    `channel` is the watchdog's channel to it. `server_end` is the server's end of the other channel, of which each new
    server gets a duplicate. `exit_status` is set when the process has ended before the server has asked for it.
    """

    pid: int
    channel: Channel
    group: GroupRecord
    generation: int
    serial: int
    server_end: socket.socket | None
    exit_status: int | None = None

    def close(self) -> None:
        """Close both channels; the process may live on."""
        self.channel.close()
        self.close_server_end()

    def close_server_end(self) -> None:
        """Keep the preloader from being given to another server."""
        if self.server_end is not None:
            self.server_end.close()
            self.server_end = None


@dataclass(eq=False)
class GroupRecord:
    """One application group.

    `last_generation` is the latest generation that was started, `serving` the one that serves (0: none yet). `early` is
    the preloader that was started before the server could ask for it. `multiproc` is the directory of the application's
    own metrics, or empty.
    """

    group: AppGroup
    identity: Identity | None
    log: ServerLog
    multiproc: str = ""
    last_generation: int = 0
    serving: int = 0
    early: PreloaderRecord | None = None
    preloaders: dict[int, PreloaderRecord] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.group.name

    def add(self, preloader: PreloaderRecord) -> None:
        """Record a preloader that was started."""
        self.preloaders[preloader.pid] = preloader
        self.last_generation = max(self.last_generation, preloader.generation)

    def take_early(self, generation: int, serial: int) -> PreloaderRecord | None:
        """The early preloader, if it is the one that the server asks for. Any other request makes it obsolete."""
        early, self.early = self.early, None
        fits = early is not None and (early.generation, early.serial) == (generation, serial)
        return early if fits else None

    def preloader_for_new_server(self) -> PreloaderRecord | None:
        """The preloader that a new server continues with: of the serving generation, else of the oldest one."""
        usable = [
            preloader for preloader in self.preloaders.values()
            if preloader.server_end is not None and preloader is not self.early
        ]
        return min(
            usable, key=lambda preloader: (preloader.generation != self.serving, preloader.generation), default=None
        )

    def obsolete(self, kept: PreloaderRecord | None) -> Iterator[PreloaderRecord]:
        """The preloaders of the last server that a new one, which continues with `kept`, does not need."""
        return (
            preloader for preloader in self.preloaders.values()
            if preloader is not kept and preloader is not self.early
        )

    def generation_for_new_server(self, kept: PreloaderRecord | None) -> int:
        """The generation that a new server, which continues with `kept`, begins with; 0: the first one."""
        if kept is not None:
            return kept.generation
        return 0 if self.early is not None else self.serving or self.last_generation
