"""The checks of `manage.py check --deploy` about this project on appsrv. Each check is a pure function.

    appsrv.E001  the settings of appsrv cannot be read
    appsrv.W001  an application with a runserver comes before appsrv_django in INSTALLED_APPS
    appsrv.W002  every Host is allowed
    appsrv.W003  threads keep database connections open
    appsrv.W004  more connections than the database accepts
    appsrv.W005  ALLOWED_HOSTS refuses the request for health_path
    appsrv.W006  a variable APPSRV_* has no effect
    appsrv.W007  the proxy that ends TLS is not trusted
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.http.request import split_domain_port, validate_host

from appsrv.apps import dependency_files
from appsrv.errors import SettingsError
from appsrv.http.syntax import FORWARDING
from appsrv.http.trusted_proxies import ANY_PEER, UNIX
from appsrv.settings import sources
from appsrv.settings.table import Settings

OURS = "appsrv_django"
MAX_CONNECTIONS_QUERIES = {"postgresql": "SHOW max_connections", "mysql": "SELECT @@max_connections"}


def server_settings() -> Settings:
    """The settings that `appsrv start` would use. Raises `SettingsError`."""
    place = Path(dependency_files.script_directory(sys.argv[0]))
    return sources.load({}, sources.environment(), place, cwd=place)


@register("appsrv", deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The checks of `manage.py check --deploy`; none of them needs a database."""
    try:
        server = server_settings()
    except SettingsError as error:
        return [Error(f"The settings of appsrv cannot be used: {error}", id="appsrv.E001")]
    names = [app.name for app in apps.get_app_configs()]
    return [
        *_check_variables(sources.environment()),
        *_check_order(names, _has_runserver),
        *_check_hosts(settings.ALLOWED_HOSTS, server),
        *_check_connection_age(settings.DATABASES, server),
        *_check_proxy(settings.SECURE_SSL_REDIRECT, settings.SECURE_PROXY_SSL_HEADER, server),
    ]


def _has_runserver(app: str) -> bool:
    try:
        return find_spec(f"{app}.management.commands.runserver") is not None
    except ImportError:
        return False


def _check_variables(environ: Mapping[str, str]) -> list[CheckMessage]:
    return [Warning(f"{notice}.", id="appsrv.W006") for notice in sources.variable_notices(environ)]


def _check_order(names: Sequence[str], has_runserver: Any) -> list[CheckMessage]:
    if OURS not in names:
        return []
    before = [name for name in names[: names.index(OURS)] if has_runserver(name)]
    return [
        Warning(
            f'"{name}" stands before "{OURS}" in INSTALLED_APPS, so its runserver is the one that runs.',
            hint=f'Put "{OURS}" before it: ours keeps what that runserver adds.',
            id="appsrv.W001",
        )
        for name in before
    ]


def _check_hosts(allowed: Iterable[str], server: Settings) -> list[CheckMessage]:
    allowed = list(allowed)
    if "*" in allowed:
        return [
            Warning(
                "ALLOWED_HOSTS allows every Host: a client chooses the host in links and in mails for passwords.",
                hint="Name the hosts of the site.",
                id="appsrv.W002",
            )
        ]
    if server.health_path is not None and not _takes_health_check(allowed, server.health_host):
        missing = f"no {server.health_host}" if server.health_host else "neither localhost nor 127.0.0.1"
        return [
            Warning(
                f"health_path is {server.health_path}, but ALLOWED_HOSTS has {missing}: appsrv's own question "
                "may be answered 400, and every restart then fails.",
                hint="Add the requested name to ALLOWED_HOSTS, or let health_host be one of those.",
                id="appsrv.W005",
            )
        ]
    return []


def _takes_health_check(allowed: Sequence[str], host: str | None) -> bool:
    if host is None:
        return not {"localhost", "127.0.0.1", ".localhost"}.isdisjoint(allowed)
    return validate_host(split_domain_port(host)[0], allowed)


def _check_connection_age(databases: dict[str, dict[str, Any]], server: Settings) -> list[CheckMessage]:
    if server.concurrency == 1:
        return []
    return [
        Warning(
            f'CONN_MAX_AGE of the database "{alias}" is {options.get("CONN_MAX_AGE")!r}: each of the '
            f"{server.concurrency} threads of each of up to {server.max_pool_size} workers keeps a connection, "
            f"{server.concurrency * server.max_pool_size} in all.",
            hint="Use CONN_MAX_AGE = 0, a pool of connections (OPTIONS pool, PgBouncer), or fewer threads.",
            id="appsrv.W003",
        )
        for alias, options in databases.items()
        if options.get("CONN_MAX_AGE", 0) != 0
    ]


def _check_proxy(redirects: bool, header: tuple[str, str] | None, server: Settings) -> list[CheckMessage]:
    """Whether the proxy's header about https reaches Django. Without it, SECURE_SSL_REDIRECT redirects endlessly."""
    by_header = header is not None and header[0] in FORWARDING
    by_redirect = redirects and header is None and server.ssl_certificate is None
    where = _untrusted_peers(server) if by_header or by_redirect else None
    if where is None:
        return []
    name = "SECURE_PROXY_SSL_HEADER" if by_header else "SECURE_SSL_REDIRECT"
    return [
        Warning(
            f"{name} is set, but forwarded_allow_ips trusts no proxy that connects {where}: appsrv removes its fields "
            "about https, and a redirect to https is endless.",
            hint="Name the proxy's address or network in forwarded_allow_ips (APPSRV_FORWARDED_ALLOW_IPS).",
            id="appsrv.W007",
        )
    ]


def _untrusted_peers(server: Settings) -> str | None:
    """The origin of the proxy's connections, in words, if no proxy from there is trusted; else None."""
    trusted = set(server.forwarded_allow_ips)
    if ANY_PEER in trusted:
        return None
    if server.socket is not None:
        return None if UNIX in trusted else "to the unix socket"
    if _is_loopback(server.address):
        return None if any(_is_loopback(member) for member in trusted) else "from this machine"
    # The address is reachable from other machines, so the proxy runs on one of them: a proxy on this machine would not
    # need such an address.
    return None if any(not _is_loopback(member) for member in trusted - {UNIX}) else "from another machine or container"


def _is_loopback(member: str) -> bool:
    return member.partition("/")[0] in ("localhost", "::1") or member.startswith("127.")


@register(Tags.database, deploy=True)
def check_database_connections(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """The check that queries the database: `manage.py check --deploy --database default`."""
    try:
        server = server_settings()
    except SettingsError:
        return []
    found = ((alias, _most_connections(connections[alias])) for alias in databases or ())
    return [message for alias, most in found for message in _check_connections(alias, most, server)]


def _most_connections(connection: Any) -> int | None:
    question = MAX_CONNECTIONS_QUERIES.get(connection.vendor)
    if question is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(question)
        return int(cursor.fetchone()[0])


def _check_connections(alias: str, most: int | None, server: Settings) -> list[CheckMessage]:
    wanted = server.max_pool_size * server.concurrency
    if most is None or wanted < most:
        return []
    return [
        Warning(
            f'The database "{alias}" takes {most} connections, but max_pool_size ({server.max_pool_size}) times '
            f"{server.concurrency} requests at a time may want {wanted}.",
            hint="Lower max_pool_size or threads, or raise the database's limit.",
            id="appsrv.W004",
        )
    ]


__all__ = ["check_database_connections", "check_deployment"]
