"""Listening sockets: made from an address or a path, passed on, described as URLs. Accepts nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from appsrv.errors import ListenError

BACKLOG = 2048
EVERY_ADDRESS = "*"


@dataclass(frozen=True)
class Listener:
    """The address of listening sockets: (`host`, `port`), or `path` for a unix socket.

    `sockets` is their number: a host name may have several addresses. `tls`: they accept HTTPS.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    sockets: int = 1
    tls: bool = False

    @property
    def url(self) -> str:
        """The URL for a browser; `unix:PATH` for a unix socket."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for the message `Configure`."""
        return asdict(self)


def listen(host: str, port: int, *, ipv6: bool = False) -> tuple[Listener, list[socket.socket]]:
    """Sockets that listen on all addresses of `host`. With port 0 the system chooses a free port.

    `::` means all addresses of IPv6 and IPv4; `*` means the same, or all of IPv4 on a machine without IPv6. Raises
    ListenError.
    """
    if host == EVERY_ADDRESS:
        host = "::" if _has_ipv6() else "0.0.0.0"
    found = _resolve(host, port, ipv6)
    sockets = [_bind(family, address) for family, address in found]
    bound = sockets[0].getsockname()[1]
    return Listener(host, bound, sockets=len(sockets)), sockets


def bind_unix(path: str) -> socket.socket:
    """A socket that is bound to this path with mode 0600. Replaces the socket file of a server that has ended.

    Raises ListenError.
    """
    _remove_dead_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}", error.errno) from error
    finally:
        os.umask(before)
    return sock


def listen_unix(
    path: str, sock: socket.socket | None = None, permit: Callable[[str], None] = lambda _: None
) -> tuple[Listener, list[socket.socket]]:
    """Listen on the socket that `bind_unix` has bound to this path, after `permit` has set the permissions of the file.

    No client can connect before that. Raises ListenError.
    """
    sock = bind_unix(path) if sock is None else sock
    try:
        permit(path)
        sock.listen(BACKLOG)
    except BaseException as error:
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(path)
        if not isinstance(error, OSError):
            raise
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}", error.errno) from error
    sock.setblocking(False)
    return Listener(path=os.path.abspath(path)), [sock]


def listen_privately(path: str) -> socket.socket:
    """A socket that listens on this path, for this user and root only. Replaces an existing file. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(16)
    sock.setblocking(False)
    return sock


def remove_unix(listener: Listener) -> None:
    """Remove the socket file, if there is one."""
    if listener.path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(listener.path)


def adopt(fd: int) -> socket.socket:
    """The listening socket that was inherited under this descriptor number."""
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def inherit(fd: int) -> tuple[Listener, socket.socket]:
    """The listening socket that a service manager has passed under this descriptor number (sd_listen_fds(3)).

    Raises ListenError if it is not one.
    """
    try:
        sock = socket.socket(fileno=fd)
        known = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and sock.type == socket.SOCK_STREAM
        if not known or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(errno.EINVAL, "not a listening stream socket")
    except OSError as error:
        raise ListenError(f"cannot listen on descriptor {fd} (LISTEN_FDS): {error.strerror}", error.errno) from error
    # Only the server gets this descriptor. In a child of the application the socket would stay open after the server's
    # end.
    os.set_inheritable(fd, False)
    sock.setblocking(False)
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        name = os.fsdecode(address)
        # "@" stands for the NUL of an abstract address (unix(7)).
        return Listener(path=f"@{name[1:]}" if name.startswith("\0") else os.path.abspath(name)), sock
    _tune(sock)
    return Listener(address[0], address[1]), sock


def _tune(sock: socket.socket) -> None:
    # Accepted connections inherit it, so that no response waits for an acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        # The kernel keeps a connection back until there is something to read, so that no worker finds it empty.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)


def _resolve(host: str, port: int, ipv6: bool) -> list[tuple[socket.AddressFamily, Any]]:
    family = socket.AF_INET6 if ipv6 else socket.AF_UNSPEC
    if not 0 <= port <= 65535:
        # The system's own look-up takes 65536 for 0.
        raise ListenError(f"cannot listen on port {port}: it must be 0 to 65535", errno.EINVAL)
    try:
        found = socket.getaddrinfo(host or None, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {host}: {error.strerror}", error.errno, error.strerror or "") from error
    except UnicodeError as error:
        raise ListenError(f"cannot listen on {host}: no host has such a name", errno.EADDRNOTAVAIL) from error
    if family == socket.AF_UNSPEC and any(entry[0] == socket.AF_INET for entry in found):
        found = [entry for entry in found if entry[0] == socket.AF_INET]
    return list({(entry[0], entry[4]): None for entry in found})


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _bind(family: socket.AddressFamily, address: Any) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        # The kernel was started with ipv6.disable=1.
        raise ListenError(_bind_message(address, error), error.errno) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` accepts IPv4 clients, too, independently of net.ipv6.bindv6only (RFC 3493 section 5.3).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        _tune(sock)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(_bind_message(address, error), error.errno) from error
    sock.setblocking(False)
    return sock


def _bind_message(address: Any, error: OSError) -> str:
    advice = {
        errno.EADDRINUSE: "another program listens there; choose another port with --port",
        errno.EACCES: "ports below 1024 need the right to bind them; choose another with --port",
        errno.EADDRNOTAVAIL: "this machine has no such address; choose another with --address",
        errno.EAFNOSUPPORT: "this machine has no IPv6; choose another with --address, 0.0.0.0 for all of IPv4",
    }.get(error.errno or 0, "choose another with --address and --port")
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"cannot listen on {host}:{address[1]}: {error.strerror} ({advice})"


def _remove_dead_socket(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ListenError(f"cannot listen on {path}: a file of that name exists", errno.EADDRINUSE)
    except OSError:
        # There is no file, or it is not accessible: bind(2) reports the error.
        return
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        # Only ECONNREFUSED means that no server listens. A busy server, or that of another user, gives another error,
        # and a blocking connect(2) could wait for it.
        probe.setblocking(False)
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise ListenError(f"cannot listen on {path}: another program listens there", errno.EADDRINUSE)
    os.unlink(path)
