"""Connections and files that an application has opened at its import and must not share with its forked workers.

Two processes on one connection read each other's answers. Finds and names such connections, and closes none: only the
application knows when it needs one again. Also reseeds a random generator that would give all workers the same numbers.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from appsrv.net.open_sockets import descriptors, own_sockets

LIBRARIES = {
    "psycopg": "psycopg", "psycopg2": "psycopg2", "asyncpg": "asyncpg", "pg8000": "pg8000", "pymysql": "PyMySQL",
    "redis": "redis", "pymongo": "PyMongo", "urllib3": "urllib3, as requests uses it", "http": "http.client",
    "httpcore": "HTTPX", "pymemcache": "pymemcache", "amqp": "amqp", "pika": "pika", "ldap3": "ldap3",
    "smtplib": "smtplib", "elastic_transport": "elasticsearch", "cassandra": "cassandra", "kafka": "kafka",
}
"""The name of the library, by the package that has the class of the connection."""

_SQLITE = b"SQLite format 3\0"
_LOG_DAEMONS = ("/dev/log", "/run/systemd/journal/", "/var/run/syslog")

_FD_OF: tuple[Callable[[Any], Any], ...] = (
    lambda holder: holder.fileno(),
    lambda holder: holder._sock.fileno(),
    lambda holder: holder.sock.fileno(),
    lambda holder: holder._usock.fileno(),
    lambda holder: holder.conn.get_conn.fileno(),
    lambda holder: holder.conn.fileno(),
)


def findings() -> list[str]:
    """A few words for each open connection or file that processes forked from now on would share."""
    logs = _sockets_of_logging()
    connected = {
        one.fd: one.peer for one in own_sockets()
        if one.stream and one.peer and one.fd not in logs and not one.peer.startswith(_LOG_DAEMONS)
    }
    files = _sqlite_files() if "sqlite3" in sys.modules else []
    engines = _engines() if "sqlalchemy" in sys.modules else []
    return [*_named(connected), *files, *engines]


def _named(connected: Mapping[int, str]) -> list[str]:
    """The addresses of the connections, each with the name of its library where that is known."""
    owners = dict(_owners(set(connected))) if connected else {}
    return sorted({f"{peer} ({owners[fd]})" if fd in owners else peer for fd, peer in connected.items()})


def _owners(wanted: set[int]) -> Iterator[tuple[int, str]]:
    for holder in _instances(LIBRARIES):
        for ask in _FD_OF:
            with contextlib.suppress(Exception):
                fd = ask(holder)
                if fd in wanted:
                    yield fd, LIBRARIES[_package_of(holder)]
                break


def _engines() -> list[str]:
    """SQLAlchemy engines with open connections in their pools; the URLs are without users and passwords."""
    found = set()
    for engine in _instances(("sqlalchemy",)):
        if type(engine).__name__ == "Engine":
            with contextlib.suppress(Exception):
                if engine.pool.checkedin() > 0:
                    url = engine.url.set(username=None, password=None, query={})
                    found.add(f"the pool of the SQLAlchemy engine {url}")
    return sorted(found)


def _instances(packages: Iterable[str]) -> Iterator[Any]:
    wanted = frozenset(packages) & {name.partition(".")[0] for name in list(sys.modules)}
    return (each for each in gc.get_objects() if _package_of(each) in wanted) if wanted else iter(())


def _package_of(holder: object) -> str:
    module = getattr(type(holder), "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else ""


def _sockets_of_logging() -> set[int]:
    """The sockets of handlers of `logging`. Several processes may share one: they only write, and read no answers."""
    fds = set()
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler: Any = reference()
        with contextlib.suppress(Exception):
            fds.add((getattr(handler, "sock", None) or handler.socket).fileno())
    return fds


def _sqlite_files() -> list[str]:
    """Open SQLite databases: a connection must not be used after a fork (https://sqlite.org/howtocorrupt.html)."""
    found = set()
    for fd in descriptors("self"):
        with contextlib.suppress(OSError):
            if os.pread(fd, len(_SQLITE), 0) == _SQLITE:
                found.add(f"the SQLite database {os.readlink(f'/proc/self/fd/{fd}')}")
    return sorted(found)


def warning(found: Iterable[str]) -> str:
    """The line for the log about these findings, with the remedy; empty when there are none."""
    named = ", ".join(found)
    if not named:
        return ""
    return (
        f"opened while loading and shared by all workers, which read each other's answers: {named}. Close it in a "
        "function for appsrv.hooks.before_fork (an engine: engine.dispose()) and open it in after_fork, or "
        "use --spawn-method direct"
    )


def reseed() -> None:
    """Seed numpy's global generator anew in a forked child. Python does the same for the one of `random`."""
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if callable(seed):
        with contextlib.suppress(Exception):
            seed()
