"""Development servers: what `manage.py runserver` and `flask run` call. The public face for the integrations.

The command that was typed becomes a clean watchdog (`start`); the watchdog runs the very same command again, which
finds itself inside the preloader and gives its application away (`serve`). So the framework's own command parses,
checks and prints, and none of it happens twice in one process. Knows no framework.
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
    """What is the framework's own: its `packages`, by their names, and the `variables` of the environment that name the
    project to it. `excluded` are packages in them that do without settings, where there are none, and keep to that.
    """

    packages: Sequence[str]
    variables: Sequence[str] = ()
    excluded: Sequence[str] = ()


# The frameworks' own servers read lines of up to 65,536 bytes (`http.server`) and bodies of any size, and wait for a
# client for any time: one that is stopped in a debugger is not cut.
_AS_THE_ORIGINALS = {
    "max_request_line_size": 64 << 10, "max_header_field_size": 64 << 10, "max_header_size": 256 << 10,
    "max_body_size": 1 << 40, "header_timeout": 3600.0, "body_timeout": 3600.0, "min_data_rate": 0,
    "max_request_queue_size": 0,
}

# The application is what the framework's command serves, whatever `appsrv start` would.
_NOT_OURS = ("start_command",)


def inside_preloader() -> bool:
    """Whether this process is the preloader that a watchdog made of the same command."""
    return internal_variables.PRELOADER in sources.environment()


def state_directory() -> Path | None:
    """Where something may be kept for this user from one start to the next; None where there is no such place."""
    return directories.writable_state(sources.environment())


def kept_directory() -> Path:
    """The state directory; without one, this user's own in the temporary directory, which is the same each time."""
    state = state_directory()
    if state is not None:
        return state
    try:
        return directories.private_directory(Path(tempfile.gettempdir(), f"appsrv-{os.geteuid()}"))
    except RunDirectoryError:
        # Another user has taken the name.
        return Path(tempfile.mkdtemp(prefix="appsrv-"))


def start(
    *, argv: Sequence[str], root: str | Path, host: str, port: int,
    defaults: Mapping[str, object] | None = None, flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> NoReturn:
    """Replace this process by a watchdog whose preloader is the command `argv`.

    `defaults` are the integration's, below files and variables; `flags` what the user gave. SettingsError ends the
    process with its message and exit code.
    """
    given = {"address": host, "port": port, **(flags or {})}
    variables = sources.environment()
    below = {"environment": "development", **_AS_THE_ORIGINALS, **(defaults or {})}
    try:
        settings = sources.load(given, variables, Path(root), defaults=below, without=_NOT_OURS)
        if settings.model == "gevent":
            raise SettingsError(
                "concurrency_model gevent is not for development servers: the application's modules are loaded before "
                "anything could be monkey-patched. Leave it out, or use appsrv start"
            )
        if settings.max_pool_size == 1:
            # The process that loads the application is its worker: threads it starts while loading live on.
            below["spawn_method"] = "direct"
            settings = sources.load(given, variables, Path(root), defaults=below, without=_NOT_OURS)
    except AppsrvError as error:
        sys.exit(_complain(error))
    spec = AppSpec(root=str(root), kind="command", argv=tuple(argv))
    order = {"settings": settings.to_json(), "spec": spec.to_json(), "environ": dict(environ or {})}
    _become_watchdog(json.dumps(order).encode())


def _complain(error: AppsrvError) -> int:
    sys.stderr.write(f"Error: {error}\n")
    return error.exit_code


def _become_watchdog(order: bytes) -> NoReturn:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    os.write(write, order)
    os.close(write)
    sys.stdout.flush()
    sys.stderr.flush()
    code = interpreter_flags.code_for("appsrv.development.run")
    os.execv(sys.executable, [sys.executable, *interpreter_flags.for_own_process(), "-c", code, str(read)])


def main() -> None:
    """The process that was typed, once it is a watchdog."""
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
        code = run(settings, spec.root, groups, announce=_say_nothing, environ=variables, development=development)
    except AppsrvError as error:
        code = _complain(error)
    sys.exit(code)


def _say_nothing(info: object) -> None:
    """The framework's own command prints the banner."""


def serve(
    load: Callable[[], WSGIApplication], *, banner: Callable[[list[str]], None], watch: FileWatch | None = None,
    log_request: LogRequest | None = None, framework: Framework | None = None, broken: bool = False,
) -> NoReturn:
    """In the preloader: load the application, say so, and be or make the workers that the server wants.

    `load` raises what keeps the application from being loaded. `watch`, in the worker, or here when loading
    failed, reports files that have changed. `framework` is what the next preloader may import before it is needed.
    `broken`: `load` gives an application that only tells why the real one cannot be loaded.
    OSError with the reason when the watchdog could not listen.
    """
    server_fd, watchdog_fd = map(int, (sources.take_variable(internal_variables.PRELOADER) or "").split(","))
    has_hook = sources.take_variable(internal_variables.STANDBY) is None
    # Of no use to the programs that the application starts.
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
        against = standby.reason_against(
            sources.environment(), sys.modules, has_hook=has_hook, reloads=watch is not None,
            wanted=role.settings.standby_preloader,
        )
        _order_standby(watchdog, None if against else framework)

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
    """Have the watchdog start the next preloader ahead, or none. Without it the next save only takes longer."""
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
