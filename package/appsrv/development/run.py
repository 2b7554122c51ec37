"""The development servers: the public interface for the integrations, `manage.py runserver` and `flask run`.

The typed command replaces itself by a watchdog (`start`). The watchdog runs the same command again as its preloader,
and there the command passes its application on (`serve`). So the framework's own command parses, checks and prints, and
each of these happens once in a process. This module knows no framework.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.development import own_writes, standby
from appsrv.errors import AppLoadError, AppsrvError, RunDirectoryError, SettingsError
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.messages import Prepare
from appsrv.preloader import setup
from appsrv.preloader.process import Preloader
from appsrv.settings import internal_variables, sources
from appsrv.settings.table import Settings
from appsrv.system import directories, interpreter_flags
from appsrv.system.fifo import is_fifo
from appsrv.system.interpreter_flags import same_command
from appsrv.worker.access_log import LogRequest
from appsrv.worker.connection_handler import WSGIApplication
from appsrv.worker.role import FileWatch


@dataclass(frozen=True)
class Framework:
    """The framework, as the standby preloader needs it.

    `packages`: the names of its packages, which can be imported before the project. `variables`: the environment
    variables that name the project to it. `excluded`: packages below `packages` that, imported without the project's
    settings, do not fail but keep default values.
    """

    packages: Sequence[str]
    variables: Sequence[str] = ()
    excluded: Sequence[str] = ()


# The limits of the frameworks' own servers: they read lines of up to 65,536 bytes (`http.server`) and bodies of any
# size, and wait for a client without a time limit, for example for one that is stopped in a debugger.
_FRAMEWORK_LIMITS = {
    "max_request_line_size": 64 << 10, "max_header_field_size": 64 << 10, "max_header_size": 256 << 10,
    "max_body_size": 1 << 40, "header_timeout": 3600.0, "body_timeout": 3600.0, "min_data_rate": 0,
    "max_request_queue_size": 0,
}

# Settings that have no effect here: the framework's command serves its own application.
_IGNORED_SETTINGS = ("start_command",)


def inside_preloader() -> bool:
    """Whether this process is a preloader: a watchdog has started the same command again."""
    return internal_variables.PRELOADER in sources.environment()


def state_directory() -> Path | None:
    """A directory of this user for data that outlives a start; None if there is no writable one."""
    return directories.writable_state(sources.environment())


def kept_directory() -> Path:
    """The state directory; without one, a private directory of this user in the temporary directory.

    The latter has the same name at each start.
    """
    state = state_directory()
    if state is not None:
        return state
    try:
        return directories.private_directory(Path(tempfile.gettempdir(), f"appsrv-{os.geteuid()}"))
    except RunDirectoryError:
        # Another user has created a directory with this name.
        return Path(tempfile.mkdtemp(prefix="appsrv-"))


def start(
    *, argv: Sequence[str], root: str | Path, host: str, port: int,
    defaults: Mapping[str, object] | None = None, flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> NoReturn:
    """Replace this process by a watchdog whose preloader is the command `argv`.

    `root`: the project's directory. `defaults`: the integration's; files and variables win over them. `flags`: the
    settings that the user typed. `environ`: additional variables for the preloader. A `SettingsError` ends the process
    with its message and exit code.
    """
    given = {"address": host, "port": port, **(flags or {})}
    variables = sources.environment()
    below = {"environment": "development", **_FRAMEWORK_LIMITS, **(defaults or {})}
    try:
        settings = sources.load(given, variables, Path(root), defaults=below, without=_IGNORED_SETTINGS)
        if settings.model == "gevent":
            raise SettingsError(
                "concurrency_model gevent is not for development servers: the application's modules are loaded before "
                "anything could be monkey-patched. Leave it out, or use appsrv start"
            )
        if settings.max_pool_size == 1:
            # With one worker, the process that loads the application is this worker. Without a fork, the threads that
            # the application starts while it is loaded stay alive.
            below["spawn_method"] = "direct"
            settings = sources.load(given, variables, Path(root), defaults=below, without=_IGNORED_SETTINGS)
    except AppsrvError as error:
        sys.exit(_print_error(error))
    spec = AppSpec(root=str(root), kind="command", argv=tuple(argv))
    order = {"settings": settings.to_json(), "spec": spec.to_json(), "environ": dict(environ or {})}
    _become_watchdog(json.dumps(order).encode())


def _print_error(error: AppsrvError) -> int:
    sys.stderr.write(f"Error: {error}\n")
    return error.exit_code


def _become_watchdog(order: bytes) -> NoReturn:
    read, write = os.pipe()
    # The pipe holds the order across execv(2); the order has to fit into the pipe's buffer (64 KiB on Linux, pipe(7)).
    os.set_inheritable(read, True)
    os.write(write, order)
    os.close(write)
    sys.stdout.flush()
    sys.stderr.flush()
    code = interpreter_flags.code_for("appsrv.development.run")
    os.execv(sys.executable, [sys.executable, *interpreter_flags.for_own_process(), "-c", code, str(read)])


def main() -> None:
    """The watchdog: the process of the typed command, after it was replaced."""
    from appsrv.watchdog.spawner import Development
    from appsrv.watchdog.start import run

    with open(int(sys.argv[1]), "rb") as pipe:
        order = json.loads(pipe.read())
    settings = Settings.from_json(order["settings"])
    spec = AppSpec.from_json(order["spec"])
    try:
        development = Development(spec.argv, order["environ"])
        groups = [AppGroup.alone(spec, settings)]
        variables = sources.environment()
        code = run(settings, spec.root, groups, announce=_no_banner, environ=variables, development=development)
    except AppsrvError as error:
        code = _print_error(error)
    sys.exit(code)


def _no_banner(info: object) -> None:
    """Print no banner: the framework's own command prints it in the preloader."""


def serve(
    load: Callable[[], WSGIApplication], *, banner: Callable[[list[str]], None], watch: FileWatch | None = None,
    log_request: LogRequest | None = None, framework: Framework | None = None, broken: bool = False,
) -> NoReturn:
    """In the preloader: load the application, print the banner, and run or fork the workers that the server requests.

    `load` returns the application, or raises the error that prevents its loading. `banner` is called with the URLs.
    `watch` reports changed files; it runs in the worker, or here if loading failed. `framework`: the packages that the
    standby preloader may import. `broken`: `load` returns an application that only shows why the real one cannot be
    loaded. Raises `OSError` with the reason if the watchdog could not listen.
    """
    server_fd, watchdog_fd = map(int, (sources.take_variable(internal_variables.PRELOADER) or "").split(","))
    has_hook = sources.take_variable(internal_variables.STANDBY) is None
    # Removed so that the programs that the application starts do not inherit it.
    sources.take_variable(internal_variables.BOOT)
    setup.prepare_process()
    watchdog = Channel.from_fd(watchdog_fd)
    configure = setup.configuration(watchdog)
    if configure.bind_errno is not None:
        raise OSError(configure.bind_errno, configure.bind_reason)
    role = setup.role_of(configure, watch=watch, log_request=log_request)
    urls = [_url(made) for made in configure.listeners]
    process = Preloader(role, server=Channel.from_fd(server_fd), watchdog=watchdog, broken=broken)

    def order_standby() -> None:
        reason = standby.reason_against(
            sources.environment(), sys.modules, has_hook=has_hook, reloads=watch is not None,
            wanted=role.settings.standby_preloader,
        )
        _order_standby(watchdog, None if reason else framework)

    process.run(lambda: _load(load, banner, urls), loaded=order_standby)
    sys.exit(0 if process.loaded else 1)


def _load(
    load: Callable[[], WSGIApplication], banner: Callable[[list[str]], None], urls: list[str]
) -> WSGIApplication:
    from appsrv.preloader.loader import guarded

    try:
        application: WSGIApplication = guarded(load, "the application cannot be loaded")
    finally:
        own_writes.stop()
    banner(urls)
    return application


def _order_standby(watchdog: Channel, framework: Framework | None) -> None:
    """Request the standby preloader from the watchdog, or that there is none.

    A failure is ignored: without a standby preloader the next reload only takes longer.
    """
    prepare = Prepare([])
    if framework is not None:
        prepare = standby.order(framework.packages, framework.excluded, framework.variables, sys.modules)
    with contextlib.suppress(ChannelClosed, OSError):
        watchdog.send(prepare)


def _url(made: Mapping[str, object]) -> str:
    from appsrv.net.listening_sockets import Listener

    return Listener(**made).url  # type: ignore[arg-type]


__all__ = [
    "AppLoadError", "Framework", "inside_preloader", "is_fifo", "kept_directory", "same_command", "serve", "start",
    "state_directory",
]
