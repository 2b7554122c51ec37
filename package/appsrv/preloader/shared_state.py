"""What an application has opened while it was loaded and must not share with its forks: connections to servers.

Two processes on one connection read each other's answers. Names what there is; closing it is the application's
business, for it alone knows when it needs it again. Reseeds what would give the same numbers in all workers.
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
"""By the package that the class of a connection lies in: what the library is called."""

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
    """What is open and shared by the processes that this one forks from now on, each in a few words."""
    logs = _sockets_of_logging()
    connected = {
        one.fd: one.peer for one in own_sockets()
        if one.stream and one.peer and one.fd not in logs and not one.peer.startswith(_LOG_DAEMONS)
    }
    files = _sqlite_files() if "sqlite3" in sys.modules else []
    engines = _engines() if "sqlalchemy" in sys.modules else []
    return [*_named(connected), *files, *engines]


def _named(connected: Mapping[int, str]) -> list[str]:
    """The connections, and which library each is of, where that can be told."""
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
    """SQLAlchemy engines whose pools have connections in them that are open; without users and passwords."""
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
    """A log is written and never read: lines of several processes may meet there, answers cannot."""
    fds = set()
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler: Any = reference()
        with contextlib.suppress(Exception):
            fds.add((getattr(handler, "sock", None) or handler.socket).fileno())
    return fds


def _sqlite_files() -> list[str]:
    """Databases of SQLite that are open: no connection may be carried across a fork (sqlite.org/howtocorrupt.html)."""
    found = set()
    for fd in descriptors("self"):
        with contextlib.suppress(OSError):
            if os.pread(fd, len(_SQLITE), 0) == _SQLITE:
                found.add(f"the SQLite database {os.readlink(f'/proc/self/fd/{fd}')}")
    return sorted(found)


def warning(found: Iterable[str]) -> str:
    """What is said of them, and the way out; nothing where there are none."""
    named = ", ".join(found)
    if not named:
        return ""
    return (
        f"opened while loading and shared by all workers, which read each other's answers: {named}. Close it in a "
        "function for appsrv.hooks.before_fork (an engine: engine.dispose()) and open it in after_fork, or "
        "use --spawn-method direct"
    )


def reseed() -> None:
    """In a new fork: the generator behind numpy.random gets a seed of its own, as Python gives the one of `random`."""
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if callable(seed):
        with contextlib.suppress(Exception):
            seed()
