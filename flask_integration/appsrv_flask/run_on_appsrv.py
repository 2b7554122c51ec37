"""`flask run` served by appsrv: the steps and the output of the built-in command, with appsrv as the server.

`start` runs in the process of the typed command and replaces it by the watchdog. `preload` runs when the watchdog
starts the same command again: it loads the application and becomes the preloader.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import click
from flask.cli import ScriptInfo, show_server_banner
from flask.helpers import get_debug_flag
from werkzeug._internal import _log
from werkzeug.debug import DebuggedApplication
from werkzeug.serving import BaseWSGIServer, _ansi_style

from appsrv.app_process import own_lines
from appsrv.apps import dependency_files
from appsrv.development import run
from appsrv.errors import ListenError
from appsrv.settings.internal_variables import BOOT
from appsrv_flask import autoreload
from appsrv_flask.access_log import log_request
from appsrv_flask.broken import SelfReloadingError, raising
from appsrv_flask.command import RELOADER_VARIABLE

WSGIApplication = Callable[..., Iterable[bytes]]

DEFAULTS = {"max_pool_size": 1, "threads": 8}
"""One process, because a developer's code may rely on data in memory; threads, for concurrent requests."""

FRAMEWORK = run.Framework(
    packages=("flask", "werkzeug", "jinja2", "markupsafe", "itsdangerous", "click", "blinker")
)

MAX_PORT = 65535

CLOCK_LAG_SECONDS = 0.1
"""The time, in seconds, by which the time stamps of files may lag behind the clock.

A file that was saved within this time before the start is compared with the imported source.
"""

SKIP_DOTENV, SET_BY_APPSRV = "FLASK_SKIP_DOTENV", "appsrv"
"""A variable of Flask, and the value that appsrv sets, by which it recognizes its own setting."""


@dataclass(frozen=True)
class Options:
    """The parameters of the built-in command that appsrv uses, with the defaults of debug mode filled in."""

    host: str
    port: int
    reload: bool
    debugger: bool
    extra_files: list[str]
    exclude_patterns: list[str]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Options:
        """Make the options from the parameters that click has parsed."""
        debug = get_debug_flag()
        unset: dict[str, Any] = {
            "reload": debug,
            "debugger": debug,
            "extra_files": [],
            "exclude_patterns": [],
        }
        chosen: dict[str, Any] = {field.name: params[field.name] for field in fields(cls)}
        if chosen["host"].startswith("[") and chosen["host"].endswith("]"):
            # Werkzeug adds brackets when it prints a URL.
            chosen["host"] = chosen["host"][1:-1]
        return cls(**{name: unset[name] if value is None else value for name, value in chosen.items()})


def start(options: Options, flags: Mapping[str, int | str]) -> NoReturn:
    """Replace this process by the watchdog of this command."""
    if not 0 <= options.port <= MAX_PORT:
        raise click.BadParameter(f"{options.port} is not a port: 0 to {MAX_PORT}.", param_hint="--port")
    run.start(
        argv=run.same_command(),
        root=dependency_files.script_directory(sys.argv[0]),
        # For Werkzeug an empty host means all IPv4 addresses.
        host=options.host or "0.0.0.0",
        port=options.port,
        defaults=DEFAULTS,
        flags=flags,
        environ=_without_fifo() | ({RELOADER_VARIABLE: "true"} if options.reload else {}),
    )


def preload(info: ScriptInfo, options: Options) -> NoReturn:
    """Load the application and serve it, as the preloader."""
    if os.environ.get(SKIP_DOTENV) == SET_BY_APPSRV:
        del os.environ[SKIP_DOTENV]
    # The kernel takes the time stamp of a file from its last timer tick, which may be late on a busy machine.
    autoreload.STARTED = time.time() - CLOCK_LAG_SECONDS
    first = os.environ.get(BOOT, "1") == "1"
    if not first:
        _log("info", f" * Restarting with {autoreload.name()}")
    application, error = load(info, may_fail=not first)
    with _as_first_process():
        if first:
            show_server_banner(get_debug_flag(), info.app_import_path)
        # Wrapped before the fork, so that all workers have the same secret and share the count of wrong PINs.
        debugged = with_debugger(application, options)
    broken = SelfReloadingError(debugged, error) if error else None
    own_lines.flush()
    try:
        run.serve(
            lambda: broken or debugged,
            banner=Banner(options, debugged, first),
            watch=watch(options, error, broken) if options.reload else None,
            log_request=broken.without_polls(log_request) if broken else log_request,
            framework=FRAMEWORK,
            broken=error is not None,
        )
    except (ListenError, OSError) as failure:
        exit_without_address(options, failure)


def _without_fifo() -> dict[str, str]:
    """The variable that keeps Flask from reading a FIFO a second time.

    The writer of the FIFO may write its content once only, and the variables are in the environment already.
    """
    try:
        import dotenv
    except ImportError:
        return {}
    files = (dotenv.find_dotenv(name, usecwd=True) for name in (".flaskenv", ".env"))
    fifos = any(run.is_fifo(file) for file in files if file)
    return {SKIP_DOTENV: SET_BY_APPSRV} if fifos and not os.environ.get(SKIP_DOTENV) else {}


def load(info: ScriptInfo, *, may_fail: bool) -> tuple[WSGIApplication, Exception | None]:
    """The application and None; with `may_fail`, after an error, an application that raises it, and the error."""
    try:
        return cast(WSGIApplication, info.load_app()), None
    except Exception as error:
        if not may_fail:
            raise
        own_lines.write_traceback(error)
        return raising(error), error


def watch(options: Options, error: Exception | None, broken: SelfReloadingError | None) -> autoreload.FlaskFileWatch:
    """The watch for changes; it also notifies the pages about an application that could not be loaded."""
    on_change = broken.changed if broken else None
    return autoreload.FlaskFileWatch(options.extra_files, options.exclude_patterns, error, on_change)


def with_debugger(application: WSGIApplication, options: Options) -> WSGIApplication:
    """The application, wrapped in the debugger as by Werkzeug's run_simple."""
    if not options.debugger:
        return application
    debugged = DebuggedApplication(cast(Any, application), evalex=True)
    debugged.trusted_hosts.append(options.host)
    return cast(WSGIApplication, debugged)


@contextmanager
def _as_first_process() -> Iterator[None]:
    """Remove the reloader's variable for the duration of the block.

    With the variable Flask prints no banner, and the debugger prints its lines too early.
    """
    mark = os.environ.pop(RELOADER_VARIABLE, None)
    try:
        yield
    finally:
        if mark is not None:
            os.environ[RELOADER_VARIABLE] = mark


class Banner:
    """Prints the built-in command's lines about the addresses and the debugger, by Werkzeug's own code."""

    def __init__(self, options: Options, application: WSGIApplication, first: bool) -> None:
        self._options = options
        self._application = application
        self._first = first

    def __call__(self, urls: list[str]) -> None:
        """Print the lines that `flask run` prints at its start. `urls`: the addresses on which the watchdog listens."""
        if self._first:
            url = urlsplit(urls[0])
            self._print_addresses(url.port or self._options.port, tls=url.scheme == "https")
        if self._options.reload and self._first:
            _log("info", f" * Restarting with {autoreload.name()}")
        if self._options.reload and isinstance(self._application, DebuggedApplication):
            self._print_pin(self._application)

    def _print_addresses(self, port: int, *, tls: bool) -> None:
        family = socket.AF_INET6 if ":" in self._options.host else socket.AF_INET
        # Werkzeug only tests whether there is a context.
        context = tls or None
        server = SimpleNamespace(host=self._options.host, port=port, address_family=family, ssl_context=context)
        BaseWSGIServer.log_startup(cast(Any, server))
        _log("info", _ansi_style("Press CTRL+C to quit", "yellow"))

    def _print_pin(self, application: DebuggedApplication) -> None:
        _log("warning", " * Debugger is active!")
        if application.pin is None:
            _log("warning", " * Debugger PIN disabled. DEBUGGER UNSECURED!")
        else:
            _log("info", " * Debugger PIN: %s", application.pin)


def exit_without_address(options: Options, failure: ListenError | OSError) -> NoReturn:
    """Print Werkzeug's messages about an address that cannot be bound, and exit with 1."""
    click.echo(failure.reason if isinstance(failure, ListenError) else failure.strerror, err=True)
    if failure.errno == errno.EADDRINUSE:
        click.echo(
            f"Port {options.port} is in use by another program. Either identify and"
            " stop that program, or start the server with a different port.",
            err=True,
        )
        if sys.platform == "darwin" and options.port == 5000:
            click.echo("On macOS, try searching for and disabling 'AirPlay Receiver' in System Settings.", err=True)
    sys.exit(1)
