"""Whether the values of the settings are consistent with each other, and possible on this machine.

Knows the table of settings, not the sources of the values.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from appsrv.errors import SettingsError
from appsrv.settings.table import ROWS, Settings


def contradictions(settings: Settings) -> Iterator[SettingsError]:
    """An error for each contradiction, with the names of its settings."""
    yield from _of_tls(settings)
    yield from _of_generic(settings)
    yield from _of_pool(settings)
    yield from _of_places(settings)


def _of_pool(settings: Settings) -> Iterator[SettingsError]:
    if settings.min_instances > settings.max_pool_size:
        yield SettingsError(
            f"min_instances ({settings.min_instances}) is above max_pool_size ({settings.max_pool_size}): "
            "raise --max-pool-size or lower --min-instances",
            names=("min_instances", "max_pool_size"),
        )
    if (settings.threads > 1) != (settings.model == "thread"):
        yield SettingsError(
            f"concurrency_model {settings.concurrency_model} and threads {settings.threads} contradict each other: "
            "only the model thread has more than one, and it needs --threads to say how many",
            names=("concurrency_model", "threads"),
        )
    if settings.probe_path is not None and settings.probe_path == (settings.health_path or "").partition("?")[0]:
        yield SettingsError(
            f"probe_path and health_path are both {settings.probe_path}: appsrv itself answers the first, "
            "the second has to be a path of the application",
            names=("probe_path", "health_path"),
        )
    if 0 < settings.hard_memory_limit <= settings.memory_limit:
        yield SettingsError(
            f"hard_memory_limit ({settings.hard_memory_limit}) has to be above memory_limit ({settings.memory_limit})",
            names=("hard_memory_limit", "memory_limit"),
        )


def _of_places(settings: Settings) -> Iterator[SettingsError]:
    # unix(7): sun_path has 108 bytes, with the final NUL. bind(2) would fail with a message that does not name the
    # path.
    if settings.socket is not None and len(os.fsencode(settings.socket)) > 107:
        yield SettingsError(
            f"socket: {settings.socket} is too long for a unix socket (107 bytes at most)", names=("socket",)
        )
    directory = settings.data_buffer_dir
    if directory is not None and not os.access(directory, os.W_OK | os.X_OK):
        yield SettingsError(
            f"data_buffer_dir: {directory} is not a writable directory", names=("data_buffer_dir",)
        )


def _of_generic(settings: Settings) -> Iterator[SettingsError]:
    """Settings that only a Python application has, beside a `start_command`."""
    if settings.start_command is None:
        return
    for row in ROWS:
        value = getattr(settings, row.name)
        # "gevent" is the concurrency model of the proxy for a `start_command`, so it contradicts nothing.
        if row.python_only and value not in (row.default, "gevent"):
            yield SettingsError(
                f"{row.name} {value} is of no use with a start_command: a worker passes up to max_greenlets requests "
                "at a time to the process that it has started",
                names=(row.name, "start_command"),
            )


def _of_tls(settings: Settings) -> Iterator[SettingsError]:
    if settings.ssl_certificate is None:
        for name in ("ssl_certificate_key", "ssl_port"):
            if getattr(settings, name) is not None:
                yield SettingsError(
                    f"{name} is of no use without a certificate: give --ssl-certificate, too", names=(name,)
                )
    elif settings.socket is not None and settings.ssl_port is None:
        yield SettingsError(
            "a unix socket speaks no TLS: give --ssl-port, too, or no certificate", names=("socket", "ssl_certificate")
        )
    if settings.ssl_address is not None and settings.ssl_port is None:
        yield SettingsError(
            "ssl_address is of no use without ssl_port: without that, HTTPS is spoken on --address",
            names=("ssl_address",),
        )
    if settings.ssl_port and settings.ssl_port == settings.port and settings.socket is None:
        yield SettingsError(
            f"port and ssl_port are both {settings.port}: a port speaks HTTP or HTTPS", names=("port", "ssl_port")
        )
