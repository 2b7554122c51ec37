"""Makes the messages that tell a process of the instance what to do: `Configure` and `ServeGroup`.

Puts settings, listening sockets and directories of the instance together. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from appsrv.ipc import messages
from appsrv.settings.table import Settings
from appsrv.watchdog.child_records import GroupRecord, PreloaderRecord
from appsrv.watchdog.resources import Resources


class Configuration:
    """What the processes of one instance have in common."""

    def __init__(
        self, *, settings: Settings, resources: Resources, problems: Mapping[str, str], development: bool,
        pulse_seconds: float,
    ) -> None:
        """`problems` tells, by name, why an application is not served; `pulse_seconds` is 0 for no pulse."""
        self._settings = settings
        self._resources = resources
        self._problems = dict(problems)
        self._development = development
        self._pulse_seconds = pulse_seconds

    def for_server(self, *, groups: int, restarts: int) -> tuple[messages.Configure, list[int]]:
        """The first message to a server, with the listening sockets; a ServeGroup for each of `groups` follows."""
        configure, sockets = self._configure(self._settings), self._resources.sockets
        configure.groups, configure.restarts = groups, restarts
        configure.problems = self._problems if groups else {}
        return configure, [sock.fileno() for sock in (*sockets.sockets, *sockets.metrics_sockets)]

    def for_preloader(self, record: GroupRecord) -> messages.Configure:
        """The first message to a preloader of this group."""
        configure = self._configure(record.group.settings)
        configure.group = record.group.to_json()
        configure.upstreams = self._resources.upstream_directory(record.group, record.identity)
        return configure

    def _configure(self, settings: Settings) -> messages.Configure:
        resources, sockets = self._resources, self._resources.sockets
        return messages.Configure(
            settings=settings.to_json(),
            listeners=[made.to_json() for made in sockets.listeners],
            instance=resources.info.to_json(),
            run_directory=str(resources.directory.path),
            development=self._development,
            bind_errno=sockets.bind_errno,
            bind_reason=sockets.bind_reason,
            metrics_sockets=len(sockets.metrics_sockets),
            pulse=self._pulse_seconds,
        )


def serve_group(record: GroupRecord, kept: PreloaderRecord | None) -> messages.ServeGroup:
    """The message to a new server about one group; `kept` is the preloader that the server continues with."""
    return messages.ServeGroup(
        record.group.to_json(), record.generation_for_new_server(kept), record.last_generation, kept is not None
    )


def preloader_started(preloader: PreloaderRecord) -> messages.PreloaderStarted:
    """The message to a server about a preloader that runs."""
    return messages.PreloaderStarted(
        preloader.group.name, preloader.generation, preloader.serial, preloader.pid, preloader.group.multiproc
    )
