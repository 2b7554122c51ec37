"""What an instance owns on this machine: listening sockets, run directory, pid file, server log.

Takes all of it or none, and gives it back. Knows what is owned, not what it is for; a process that was killed leaves
nothing that the next instance could not take over.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TextIO

from appsrv import __version__, metrics
from appsrv.apps.app_group import AppGroup
from appsrv.apps.hosting import needs_routes
from appsrv.errors import ListenError, RunDirectoryError
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
from appsrv.logs.log_format import PLAIN, TEXT
from appsrv.logs.server_log import ServerLog
from appsrv.net import listening_sockets
from appsrv.net.listening_sockets import Listener
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.table import Settings
from appsrv.system.directories import bases, is_changed_by_all, state_directory, writable_state
from appsrv.system.service_manager import passed_sockets
from appsrv.system.users import Identity, acting_as, identity_of
from appsrv.system.words import wants_colour
from appsrv.watchdog.socket_access import SocketAccess, shared_group

# They travel to the server in one message (`channel.MAX_FDS`), those for HTTPS and metrics with them.
MOST_PASSED = 8


class Resources:
    """`open` takes everything, `close` gives it back. `bind_errno`: why a development server could not listen."""

    directory: InstanceDirectory
    log: ServerLog
    info: InstanceInfo

    def __init__(
        self, settings: Settings, root: str, groups: Sequence[AppGroup], environ: Mapping[str, str],
        identities: Mapping[str, Identity | None], *, development: bool,
    ) -> None:
        self._settings = settings
        self._root = root
        self._groups = groups
        self._environ = environ
        self._identities = dict(identities)
        self._identity = identity_of(settings.user, settings.group)
        self._development = development
        self._pid_file: PidFile | None = None
        self._socket_notice: str | None = None
        self._pid_file_owner: Identity | None = None
        # What the log should tell once it is open.
        self._notices: list[tuple[int, str]] = []
        self._taken = False
        self.bind_errno: int | None = None
        self.bind_reason = ""
        # Here, since a daemon has another pid than the process that was started. A framework's command listens itself.
        self._passed = [] if development else passed_sockets(environ, os.getpid())
        self.listeners: list[Listener] = []
        """Where the instance listens, in the order of `sockets`."""
        self.sockets: list[socket.socket] = []
        self.metrics_listener = Listener(sockets=0)
        self.metrics_sockets: list[socket.socket] = []
        # By what for, the name of the group, and whose: a directory of applications may be given to another user.
        self._directories: dict[tuple[str, str, Identity | None], str] = {}
        self.group_logs: dict[str, ServerLog] = {}
        """The server log of each group, by its name."""
        self._terminal: TextIO | None = None

    def open(
        self, terminal: TextIO | None, *, may_wait: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> InstanceInfo:
        """Take the address, the run directory, the pid file and the log; OperatorError when one is not free.

        `may_wait` is entered around what may wait for another process: a named pipe in the place of the log, for one
        that reads it.
        """
        self._check_certificate()
        try:
            # The name of the run directory needs the port, which the system may be asked to choose; otherwise the
            # directory comes first, because it knows which appsrv has the port already.
            system_chooses = self._settings.socket is None and self._settings.port == 0
            listen_first = self._development or system_chooses or bool(self._passed)
            if listen_first:
                self._listen()
            self._take_directory()
            self._take_pid_file()
            if not listen_first:
                self._listen()
            self._listen_for_tls()
            self._open_monitoring()
            access_log = self._settings.access_log_path(framework=self._development)
            if access_log is not None and access_log != "-":
                with acting_as(self._identity):
                    check_writable(access_log)
            self._terminal = terminal
            with may_wait():
                self.log = self._open_server_log()
            for group in self._groups:
                self.group_logs[group.name] = self.log_of(group, self._identities[group.name])
        except BaseException:
            self.close()
            raise
        if self._pid_file is not None and self._pid_file.notice:
            self.log.event(logging.WARNING, self._pid_file.notice)
        if self._socket_notice is not None:
            self.log.event(logging.WARNING, self._socket_notice)
        for level, notice in self._notices:
            self.log.event(level, notice)
        self.info = self._publish()
        if self._passed:
            what = f"{len(self._passed)} sockets that were passed (LISTEN_FDS)"
            self.log.event(logging.INFO, f"listening on {what}, not on the address, port or socket of the settings")
        return self.info

    def _open_log(self, path: str, identity: Identity | None, *, blocks: bool = True) -> ServerLog:
        terminal = self._terminal
        return ServerLog(
            path, self._settings.log_level, terminal, form=self._settings.log_format or TEXT,
            shown=self._settings.log_format or (PLAIN if self._development else TEXT), quiet=self._development,
            colour=terminal is not None and wants_colour(self._environ, terminal.isatty()),
            owner=lambda: acting_as(identity), blocks=blocks,
        )

    def log_of(self, group: AppGroup, identity: Identity | None) -> ServerLog:
        """Where the application's output goes: one of several has a log of its own.

        One that cannot be written harms no other application: its lines are in the server log then. Nobody writes into
        another user's.
        """
        known = {log.path: log for name, log in self.group_logs.items() if self._identities[name] == identity}
        self._identities[group.name] = identity
        if group.settings.log_file is None:
            return self.log
        path = group.settings.log_file
        if identity == self._identity:
            known[self.log.path] = self.log
        try:
            return known.get(path) or self._open_log(path, identity, blocks=False)
        except RunDirectoryError as error:
            self.log.event(logging.WARNING, f"{group.name}: {error}; until then its lines are here")
            return self.log

    def _check_certificate(self) -> None:
        """Say now what the server process could only write into the log."""
        certificate, key = self._settings.ssl_certificate, self._settings.ssl_certificate_key
        if certificate is not None:
            from appsrv.net import certificates

            with acting_as(self._identity):
                certificates.load(certificate, key)

    def _listen_for_tls(self) -> None:
        """HTTPS has a port of its own, or that of HTTP."""
        settings = self._settings
        if settings.ssl_certificate is None:
            return
        if settings.ssl_port is None:
            self.listeners = [dataclasses.replace(made, tls=True) for made in self.listeners]
            return
        if self._passed and any(made.port == settings.ssl_port for made in self.listeners):
            self.listeners = [
                dataclasses.replace(made, tls=made.port == settings.ssl_port) for made in self.listeners
            ]
            return
        host = settings.ssl_address or settings.address
        made, sockets = listening_sockets.listen(host, settings.ssl_port, ipv6=":" in host)
        self.listeners.append(dataclasses.replace(made, tls=True))
        self.sockets += sockets

    def _take_directory(self) -> None:
        settings = self._settings
        port = self.listeners[0].port if self.listeners else settings.port
        bound = settings.socket or f"{settings.address}:{port}"
        if self._passed:
            first = self.listeners[0]
            bound = first.path or f"{first.host}:{first.port}"
        if self.bind_errno is not None:
            # The name belongs to whoever has the address.
            bound = f"{bound}-{os.getpid()}"
        places = bases(self._environ)
        self.directory, passed_over = InstanceDirectory.create_in_first(places, self._root, bound)
        self._taken = True
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
            # No setting names it, so it is no condition to start.
            self._take_pid_file_at(self.directory.pid_file, None)
            self._notices.append((logging.INFO, f"the pid file is {self.directory.pid_file}: {error}"))

    def _take_pid_file_at(self, path: Path, owner: Identity | None) -> None:
        living = list_instances(bases(self._environ))
        users = {one.info.pid for one in living if one.info.pid_file == str(path)}
        with acting_as(owner):
            self._pid_file = PidFile.take(path, os.getpid(), users)
        self._pid_file_owner = owner

    def close(self) -> None:
        """Let go of everything that somebody else may want."""
        for sock in [*self.sockets, *self.metrics_sockets]:
            sock.close()
        if self.sockets and not self._passed:
            listening_sockets.remove_unix(self.listeners[0])
        if self._pid_file is not None:
            with acting_as(self._pid_file_owner):
                self._pid_file.remove()
        for name in {name for _, name, _ in self._directories}:
            self.remove_directories(name)
        if self._taken:
            self.directory.remove()

    def tell_settings_module(self, module: str) -> None:
        """The settings module of Django, which is known only once the application is loaded."""
        if module:
            self.info = dataclasses.replace(self.info, settings_module=module)
            self.directory.write(self.info)

    def _publish(self) -> InstanceInfo:
        info = InstanceInfo(
            name=self.directory.name,
            pid=os.getpid(),
            version=__version__,
            root=self._root,
            app=_shown(self._groups),
            environment=self._settings.environment,
            bind=tuple(made.url for made in self.listeners),
            pid_file=str(self._pid_file.path) if self._pid_file is not None else None,
            log_file=self.log.path if self.log.path != NO_FILE else None,
            started=time.time(),
            daemonized=self._settings.daemonize,
            metrics=self.metrics_listener.url if self.metrics_sockets else "",
            apps=self._apps(),
            apps_directory=self._settings.apps_directory or "",
            stops_within=self._settings.stop_delay + self._settings.stop_timeout,
        )
        self.directory.write(info)
        return info

    def _apps(self) -> tuple[tuple[str, Sequence[str], str], ...]:
        if not needs_routes(self._groups, self._settings):
            return ()
        return tuple((group.name, group.settings.hosts, group.settings.base_uri) for group in self._groups)

    def _listen(self) -> None:
        """On the sockets that the service manager has opened, where it has; else where the settings say."""
        if len(self._passed) > MOST_PASSED:
            raise ListenError(f"cannot listen on {len(self._passed)} sockets (LISTEN_FDS): {MOST_PASSED} are the most")
        for fd in self._passed:
            made, sock = listening_sockets.inherit(fd)
            self.listeners.append(made)
            self.sockets.append(sock)
        if not self._passed:
            made, self.sockets = self._bind()
            self.listeners.append(made)

    def _bind(self) -> tuple[Listener, list[socket.socket]]:
        settings = self._settings
        try:
            if settings.socket is not None:
                return self._listen_unix(settings.socket)
            return listening_sockets.listen(settings.address, settings.port, ipv6=":" in settings.address)
        except ListenError as error:
            if not self._development:
                raise
            # The framework's own command says so in its own words, at its own time.
            self.bind_errno, self.bind_reason = error.errno, error.reason
            return Listener(settings.address, settings.port, sockets=0), []

    def _open_monitoring(self) -> None:
        settings = self._settings
        if settings.prometheus_multiproc:
            metrics.check("prometheus_multiproc")
            for group in self._groups:
                self.make_multiproc(group, self._identities[group.name])
        if settings.metrics_port is not None:
            metrics.check("metrics_port")
            self.metrics_listener, self.metrics_sockets = self._listen_for_metrics(settings.metrics_port)

    def _listen_for_metrics(self, port: int) -> tuple[Listener, list[socket.socket]]:
        address = self._settings.metrics_address
        try:
            return listening_sockets.listen(address, port, ipv6=":" in address)
        except ListenError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ListenError(
                f"cannot listen on {address}:{port} for metrics: {reason}; choose another --metrics-port", error.errno
            ) from error

    def make_multiproc(self, group: AppGroup, identity: Identity | None) -> str:
        """The directory of the application's own metrics; "" where none is wanted."""
        return self._private_directory("prometheus-", group, identity) if self._settings.prometheus_multiproc else ""

    def upstreams_of(self, group: AppGroup, identity: Identity | None) -> str:
        """The directory for the unix sockets of a generic application's processes; empty for any other."""
        if group.spec.start_command is None:
            return ""
        return self._private_directory("upstreams-", group, identity)

    def _private_directory(self, prefix: str, group: AppGroup, identity: Identity | None) -> str:
        """A directory that the application's user can reach, and nobody else; empty when it is asked for first."""
        key = (prefix, group.name, identity)
        if key not in self._directories:
            # The run directory is closed to other users; a name that is new each time nobody can wait for.
            where = None if identity is not None else str(self.directory.path)
            made = tempfile.mkdtemp(prefix=f"appsrv-{prefix}" if where is None else prefix, dir=where)
            if identity is not None:
                os.chown(made, identity.uid, identity.gid)
            self._directories[key] = made
        return self._directories[key]

    def restore_directories(self) -> None:
        """Make those again that were removed together with the run directory."""
        for (_, _, identity), path in self._directories.items():
            if identity is None:
                os.makedirs(path, mode=0o700, exist_ok=True)

    def remove_directories(self, name: str) -> None:
        """The application of this name has ended."""
        for key in [key for key in self._directories if key[1] == name]:
            with acting_as(key[2]):
                shutil.rmtree(self._directories.pop(key), ignore_errors=True)

    def _listen_unix(self, path: str) -> tuple[Listener, list[socket.socket]]:
        access = SocketAccess.of(self._settings)
        try:
            with acting_as(self._identity):
                sock = listening_sockets.bind_unix(path)
        except ListenError as error:
            if self._identity is None or error.errno != errno.EACCES:
                raise
            # A directory of root's, where that user could not put anything in the socket's place.
            sock = listening_sockets.bind_unix(path)
            os.chown(path, self._identity.uid, self._identity.gid, follow_symlinks=False)
        uid, gid = os.geteuid(), os.getegid()
        if self._identity is not None:
            uid, gid = self._identity.uid, self._identity.gid
        self._socket_notice = access.notice(path, shared_group(uid, gid))
        return listening_sockets.listen_unix(path, sock, access.apply)

    def _port(self) -> int | None:
        if self.listeners:
            return self.listeners[0].port or None
        return None if self._settings.socket else self._settings.port

    def _pid_path(self) -> Path:
        if self._settings.pid_file is not None:
            return Path(self._settings.pid_file)
        if self._development:
            return self.directory.pid_file
        return default_pid_file(Path(self._root), self._port())

    def _open_server_log(self) -> ServerLog:
        """Where the settings say; else in the first of the usual places that can be written."""
        if self._settings.log_file is not None:
            return self._open_log(self._settings.log_file, self._identity)
        first = ""
        for path, owner in self._log_places():
            try:
                log = self._open_log(str(path), owner)
            except RunDirectoryError as error:
                first = first or str(error)
                continue
            if first:
                shown = "not kept in a file" if log.path == NO_FILE else log.path
                self._notices.append((logging.INFO, f"the server log is {shown}: {first}"))
            return log
        raise RunDirectoryError(first)

    def _log_places(self) -> Iterator[tuple[Path, Identity | None]]:
        """With their owners. Last the run directory, and for what prints all lines on its terminal no file at all."""
        usual = default_log_file(Path(self._root), self._port())
        if not self._development:
            yield usual, self._identity
        elif self.bind_errno is None:
            remove_old_logs(state_directory(self._environ), bases(self._environ))
            if usual.parent != Path(self._root):
                # `log` exists, else it is out of the project's way.
                yield usual, self._identity
        if self.bind_errno is None:
            state = writable_state(self._environ, self.directory.name)
            if state is not None:
                yield state / "server.log", None
        if self._development or self._settings.daemonize:
            yield self.directory.log_file, None
        yield Path(NO_FILE), None


def _shown(groups: Sequence[AppGroup]) -> str:
    return groups[0].app if len(groups) == 1 else f"{len(groups)} applications"
