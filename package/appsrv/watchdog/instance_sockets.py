"""The listening sockets of an instance: HTTP, HTTPS and metrics, opened here or passed by the service manager.

Knows addresses and sockets. The server process serves on them.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from collections.abc import Sequence

from appsrv.errors import ListenError
from appsrv.net import listening_sockets
from appsrv.net.listening_sockets import Listener
from appsrv.settings.table import Settings
from appsrv.system.users import Identity, acting_as
from appsrv.watchdog.socket_access import SocketAccess, shared_group

MOST_PASSED_SOCKETS = 8
"""All sockets travel to the server in one message (`channel.MAX_FDS`), those for HTTPS and metrics among them."""


class InstanceSockets:
    """`listeners` are the addresses of `sockets`, in the same order; the last sockets may be for HTTPS.

    `bind_errno` and `bind_reason` tell why a development server could not listen. `notice` is a line for the log.
    """

    def __init__(
        self, settings: Settings, identity: Identity | None, *, passed: Sequence[int], development: bool
    ) -> None:
        """`passed` are descriptors that the service manager has opened: they replace the address of the settings."""
        self._settings = settings
        self._identity = identity
        self._development = development
        self.passed = passed
        self.listeners: list[Listener] = []
        self.sockets: list[socket.socket] = []
        self.metrics_listener = Listener(sockets=0)
        self.metrics_sockets: list[socket.socket] = []
        self.bind_errno: int | None = None
        self.bind_reason = ""
        self.notice: str | None = None

    @property
    def address(self) -> str:
        """Where the instance listens or is going to: the path of a unix socket or HOST:PORT."""
        if self.passed:
            first = self.listeners[0]
            return first.path or f"{first.host}:{first.port}"
        port = self.listeners[0].port if self.listeners else self._settings.port
        return self._settings.socket or f"{self._settings.address}:{port}"

    @property
    def port(self) -> int | None:
        """The port, if there is one."""
        if self.listeners:
            return self.listeners[0].port or None
        return None if self._settings.socket else self._settings.port

    @property
    def system_chooses_port(self) -> bool:
        """Whether the port is known only after `listen`."""
        return self._settings.socket is None and self._settings.port == 0

    def listen(self) -> None:
        """Listen for HTTP. Raises ListenError."""
        if len(self.passed) > MOST_PASSED_SOCKETS:
            raise ListenError(
                f"cannot listen on {len(self.passed)} sockets (LISTEN_FDS): {MOST_PASSED_SOCKETS} are the most"
            )
        for fd in self.passed:
            made, sock = listening_sockets.inherit(fd)
            self.listeners.append(made)
            self.sockets.append(sock)
        if not self.passed:
            made, self.sockets = self._bind()
            self.listeners.append(made)

    def listen_for_tls(self) -> None:
        """Listen for HTTPS, where there is a certificate: on `ssl_port`, else instead of HTTP. Raises ListenError."""
        settings = self._settings
        if settings.ssl_certificate is None:
            return
        if settings.ssl_port is None:
            self.listeners = [dataclasses.replace(made, tls=True) for made in self.listeners]
            return
        if self.passed and any(made.port == settings.ssl_port for made in self.listeners):
            # The service manager has opened that port, too.
            self.listeners = [
                dataclasses.replace(made, tls=made.port == settings.ssl_port) for made in self.listeners
            ]
            return
        host = settings.ssl_address or settings.address
        made, sockets = listening_sockets.listen(host, settings.ssl_port, ipv6=":" in host)
        self.listeners.append(dataclasses.replace(made, tls=True))
        self.sockets += sockets

    def listen_for_metrics(self, port: int) -> None:
        """Listen for readers of metrics. Raises ListenError."""
        address = self._settings.metrics_address
        try:
            self.metrics_listener, self.metrics_sockets = listening_sockets.listen(address, port, ipv6=":" in address)
        except ListenError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ListenError(
                f"cannot listen on {address}:{port} for metrics: {reason}; choose another --metrics-port", error.errno
            ) from error

    def close(self) -> None:
        """Close all, and remove the unix socket from its directory unless the service manager owns it."""
        for sock in (*self.sockets, *self.metrics_sockets):
            sock.close()
        if self.sockets and not self.passed:
            listening_sockets.remove_unix(self.listeners[0])

    def _bind(self) -> tuple[Listener, list[socket.socket]]:
        settings = self._settings
        try:
            if settings.socket is not None:
                return self._bind_unix(settings.socket)
            return listening_sockets.listen(settings.address, settings.port, ipv6=":" in settings.address)
        except ListenError as error:
            if not self._development:
                raise
            # The framework's own command reports this error, in its own words and at its own time.
            self.bind_errno, self.bind_reason = error.errno, error.reason
            return Listener(settings.address, settings.port, sockets=0), []

    def _bind_unix(self, path: str) -> tuple[Listener, list[socket.socket]]:
        access = SocketAccess.of(self._settings)
        try:
            with acting_as(self._identity):
                sock = listening_sockets.bind_unix(path)
        except ListenError as error:
            if self._identity is None or error.errno != errno.EACCES:
                raise
            # Only root may write to this directory. So the user cannot have put a link in the place of the socket, and
            # root can safely bind it and give it away.
            sock = listening_sockets.bind_unix(path)
            os.chown(path, self._identity.uid, self._identity.gid, follow_symlinks=False)
        uid, gid = os.geteuid(), os.getegid()
        if self._identity is not None:
            uid, gid = self._identity.uid, self._identity.gid
        self.notice = access.notice(path, shared_group(uid, gid))
        return listening_sockets.listen_unix(path, sock, access.apply)
