"""What an instance owns on this machine: listening sockets, run directory, pid file, server log.

Takes all of it or nothing, and gives it back. A process that was killed gives nothing back, but leaves nothing that the
next instance could not take over. Sockets, logs and directories of applications have modules of their own.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TextIO

from appsrv import __version__, metrics
from appsrv.apps.app_group import AppGroup
from appsrv.apps.hosting import needs_routes
from appsrv.errors import RunDirectoryError
from appsrv.instance.old_logs import remove_old_logs
from appsrv.instance.pid_file import PidFile
from appsrv.instance.run_directory import (
    InstanceDirectory,
    InstanceInfo,
    default_log_file,
    default_pid_file,
    list_instances,
)
from appsrv.logs.append_file import check_writable
from appsrv.logs.server_log import ServerLog
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.table import Settings
from appsrv.system.directories import bases, is_changed_by_all, state_directory, writable_state
from appsrv.system.service_manager import passed_sockets
from appsrv.system.users import Identity, acting_as, identity_of
from appsrv.watchdog.instance_logs import InstanceLogs, Place
from appsrv.watchdog.instance_sockets import InstanceSockets
from appsrv.watchdog.private_directories import PrivateDirectories


class Resources:
    """Directories, sockets, pid file and logs of the instance: `open` takes them, `close` releases them."""

    directory: InstanceDirectory
    info: InstanceInfo

    def __init__(
        self, settings: Settings, root: str, groups: Sequence[AppGroup], environ: Mapping[str, str],
        identities: Mapping[str, Identity | None], *, development: bool,
    ) -> None:
        """Takes nothing yet. It is made before a daemon is forked, since passed sockets belong to the pid of that time.

        A development server takes no passed sockets: the framework's own command has an address among its arguments.
        """
        self._settings = settings
        self._root = root
        self._groups = groups
        self._environ = environ
        self._identities = identities
        self._identity = identity_of(settings.user, settings.group)
        self._development = development
        self._pid_file: PidFile | None = None
        self._pid_file_owner: Identity | None = None
        self._private: PrivateDirectories | None = None
        # (level, line): written to the log once it is open.
        self._notices: list[tuple[int, str]] = []
        passed = [] if development else passed_sockets(environ, os.getpid())
        self.sockets = InstanceSockets(settings, self._identity, passed=passed, development=development)
        self.logs = InstanceLogs(settings, self._identity, environ, development=development)

    @property
    def log(self) -> ServerLog:
        """The server log of the instance."""
        return self.logs.main

    # -- taking and giving back ---------------------------------------------------------------------------------------

    def open(
        self, terminal: TextIO | None, *, may_wait: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> InstanceInfo:
        """Take the address, the run directory, the pid file and the log; OperatorError when one is not free.

        `may_wait` is entered around a step that may wait for another process: where the log is a FIFO, for its reader.
        """
        self._check_certificate()
        try:
            self._take_places()
            self._open_monitoring()
            self._check_access_log()
            with may_wait():
                notice = self.logs.open_main(terminal, self._log_places())
            for group in self._groups:
                self.logs.open_for(group, self._identities[group.name])
        except BaseException:
            self.close()
            raise
        if notice is not None:
            self._notices.append((logging.INFO, notice))
        self._log_notices()
        self.info = self._publish()
        if self.sockets.passed:
            what = f"{len(self.sockets.passed)} sockets that were passed (LISTEN_FDS)"
            self.log.event(logging.INFO, f"listening on {what}, not on the address, port or socket of the settings")
        return self.info

    def close(self) -> None:
        """Give back what another instance may want to take. The logs stay open: they get the last lines."""
        self.sockets.close()
        if self._pid_file is not None:
            with acting_as(self._pid_file_owner):
                self._pid_file.remove()
        if self._private is not None:
            self._private.remove_all()
            self.directory.remove()

    def _take_places(self) -> None:
        """Take sockets, run directory and pid file.

        The run directory has the port in its name. So the sockets come first where the port is not in the settings. In
        all other cases the directory comes first: its lock tells which other instance has the port.
        """
        listen_first = self._development or self.sockets.system_chooses_port or bool(self.sockets.passed)
        if listen_first:
            self.sockets.listen()
        self._take_directory()
        self._take_pid_file()
        if not listen_first:
            self.sockets.listen()
        self.sockets.listen_for_tls()

    def _check_certificate(self) -> None:
        """Refuse a certificate that cannot be used. The server process could only write that to the log."""
        certificate, key = self._settings.ssl_certificate, self._settings.ssl_certificate_key
        if certificate is not None:
            from appsrv.net import certificates

            with acting_as(self._identity):
                certificates.load(certificate, key)

    def _take_directory(self) -> None:
        bound = self.sockets.address
        if self.sockets.bind_errno is not None:
            # Another process has the address, and with it the name.
            bound = f"{bound}-{os.getpid()}"
        places = bases(self._environ)
        self.directory, passed_over = InstanceDirectory.create_in_first(places, self._root, bound)
        self._private = PrivateDirectories(self.directory.path)
        if passed_over:
            self._notices.append((logging.INFO, f"the run directory is {self.directory.path}: {passed_over[0]}"))
        if is_changed_by_all(self.directory.path.parent.parent):
            warning = (
                f"every user can replace the run directory {self.directory.path.parent}: the directory above it has no "
                "sticky bit. If there are other users, set XDG_RUNTIME_DIR to a directory of your own"
            )
            self._notices.append((logging.WARNING, warning))

    def _take_pid_file(self) -> None:
        path = self._pid_path()
        if str(path) == NO_FILE:
            return
        try:
            self._take_pid_file_at(path, None if path == self.directory.pid_file else self._identity)
        except RunDirectoryError as error:
            if self._settings.pid_file is not None:
                raise
            # No setting asks for a pid file at this place, so the start does not depend on it.
            self._take_pid_file_at(self.directory.pid_file, None)
            self._notices.append((logging.INFO, f"the pid file is {self.directory.pid_file}: {error}"))

    def _take_pid_file_at(self, path: Path, owner: Identity | None) -> None:
        living = list_instances(bases(self._environ))
        users = {one.info.pid for one in living if one.info.pid_file == str(path)}
        with acting_as(owner):
            self._pid_file = PidFile.take(path, os.getpid(), users)
        self._pid_file_owner = owner

    def _pid_path(self) -> Path:
        if self._settings.pid_file is not None:
            return Path(self._settings.pid_file)
        if self._development:
            return self.directory.pid_file
        return default_pid_file(Path(self._root), self.sockets.port)

    def _open_monitoring(self) -> None:
        settings = self._settings
        if settings.prometheus_multiproc:
            metrics.check("prometheus_multiproc")
            for group in self._groups:
                self.multiproc_directory(group, self._identities[group.name])
        if settings.metrics_port is not None:
            metrics.check("metrics_port")
            self.sockets.listen_for_metrics(settings.metrics_port)

    def _check_access_log(self) -> None:
        path = self._settings.access_log_path(framework=self._development)
        if path is not None and path != "-":
            with acting_as(self._identity):
                check_writable(path)

    # -- logs ---------------------------------------------------------------------------------------------------------

    def _log_places(self) -> Iterator[Place]:
        """Where the log may be kept without a setting, the best place first.

        At the end comes the run directory, or no file at all for an instance that shows all lines on its terminal.
        """
        usual = default_log_file(Path(self._root), self.sockets.port)
        could_bind = self.sockets.bind_errno is None
        if not self._development:
            yield usual, self._identity
        elif could_bind:
            remove_old_logs(state_directory(self._environ), bases(self._environ))
            if usual.parent != Path(self._root):
                # The project has a directory `log`. Without one, the log is kept out of the project.
                yield usual, self._identity
        if could_bind:
            state = writable_state(self._environ, self.directory.name)
            if state is not None:
                yield state / "server.log", None
        if self._development or self._settings.daemonize:
            yield self.directory.log_file, None
        yield Path(NO_FILE), None

    def _log_notices(self) -> None:
        for notice in (self._pid_file.notice if self._pid_file is not None else None, self.sockets.notice):
            if notice:
                self.log.event(logging.WARNING, notice)
        for level, line in self._notices:
            self.log.event(level, line)

    # -- instance.json ------------------------------------------------------------------------------------------------

    def publish_settings_module(self, module: str) -> None:
        """Add the settings module of Django, which is known only once the application is loaded."""
        if module:
            self.info = dataclasses.replace(self.info, settings_module=module)
            self.directory.write(self.info)

    def _publish(self) -> InstanceInfo:
        """Write instance.json, by which commands find the instance."""
        settings, sockets = self._settings, self.sockets
        info = InstanceInfo(
            name=self.directory.name,
            pid=os.getpid(),
            version=__version__,
            root=self._root,
            app=_shown(self._groups),
            environment=settings.environment,
            bind=tuple(made.url for made in sockets.listeners),
            pid_file=str(self._pid_file.path) if self._pid_file is not None else None,
            log_file=self.log.path if self.log.path != NO_FILE else None,
            started=time.time(),
            daemonized=settings.daemonize,
            metrics=sockets.metrics_listener.url if sockets.metrics_sockets else "",
            apps=self._apps(),
            apps_directory=settings.apps_directory or "",
            stops_within=settings.stop_delay + settings.stop_timeout,
        )
        self.directory.write(info)
        return info

    def _apps(self) -> tuple[tuple[str, Sequence[str], str], ...]:
        if not needs_routes(self._groups, self._settings):
            return ()
        return tuple((group.name, group.settings.hosts, group.settings.base_uri) for group in self._groups)

    # -- directories of applications ----------------------------------------------------------------------------------

    def multiproc_directory(self, group: AppGroup, identity: Identity | None) -> str:
        """The directory for the application's own metrics; empty without `prometheus_multiproc`."""
        if not self._settings.prometheus_multiproc:
            return ""
        return self._directories.path_of("prometheus-", group, identity)

    def upstream_directory(self, group: AppGroup, identity: Identity | None) -> str:
        """The directory for the unix sockets of a generic application's processes; empty for any other application."""
        if group.spec.start_command is None:
            return ""
        return self._directories.path_of("upstreams-", group, identity)

    def restore_directories(self) -> None:
        """Make the directories of applications again that were removed together with the run directory."""
        self._directories.restore()

    def forget_group(self, name: str) -> None:
        """Remove the directories of a group that is not served any more, and its log from the known ones."""
        self.logs.forget(name)
        self._directories.remove(name)

    @property
    def _directories(self) -> PrivateDirectories:
        assert self._private is not None
        return self._private


def _shown(groups: Sequence[AppGroup]) -> str:
    return groups[0].app if len(groups) == 1 else f"{len(groups)} applications"
