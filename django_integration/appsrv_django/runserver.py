"""`runserver` on appsrv: a subclass of the runserver that Django has found, with appsrv as the server.

Django's own command parses, checks and prints; only the server class is replaced. In the process of the typed command,
`run` replaces the process by a watchdog. The watchdog starts the same command again as its preloader. There `run` calls
the server class, which becomes the preloader.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.commands.runserver import Command as CoreCommand
from django.db import connections
from django.utils import autoreload as django_autoreload

from appsrv.app_process import own_lines
from appsrv.apps import dependency_files
from appsrv.development import run as development
from appsrv.errors import ListenError
from appsrv.settings import internal_variables
from appsrv_django import autoreload, broken, colours
from appsrv_django.access_log import log_request
from appsrv_django.takeover import RELOADER_VARIABLE, reason_to_step_aside

if TYPE_CHECKING:
    Base = CoreCommand
else:
    Base = object

WSGIApplication = Callable[..., Iterable[bytes]]

DEFAULTS = {"max_pool_size": 1, "threads": 8}
"""One process, because a developer's code may rely on data in memory; threads, for concurrent requests."""

FRAMEWORK = development.Framework(
    packages=("django", "asgiref", "sqlparse"),
    variables=("DJANGO_SETTINGS_MODULE",),
    # GeoDjango takes the paths of its libraries from the settings; without settings it searches the system.
    excluded=("django.contrib.gis",),
)

MAX_PORT = 65535


class Runserver(Base):
    """appsrv's part of the command; `subclass` puts it in front of a runserver class."""

    # Set by Django's handle().
    addr: str
    port: str

    def add_arguments(self, parser: CommandParser) -> None:
        """Add Django's options and appsrv's."""
        super().add_arguments(parser)
        group = parser.add_argument_group("appsrv")
        _add_number(group, "--max-pool-size", "Number of worker processes at most (default: 1).")
        _add_number(group, "--threads", "Number of threads in each worker process (default: 8).")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Execute Django's command, with colours if the watchdog's terminal shows them."""
        if development.inside_preloader() and internal_variables.COLOUR in os.environ:
            options["force_color"] = not options["no_color"]
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> str | None:
        """Run Django's command; if a change has broken the settings, serve the error and wait for the next change."""
        try:
            return super().handle(*args, **options)
        except Exception as error:
            if not (development.inside_preloader() and options["use_reloader"]):
                raise
            own_lines.write_traceback(error)
            broken.serve(error)

    def run(self, **options: Any) -> None:
        """Start the server; Django calls this when the address is known."""
        if development.inside_preloader():
            self._preload(options)
        elif reason_to_step_aside(self, options, os.environ, sys.modules):
            super().run(**options)
        else:
            self._start(options)

    def _start(self, options: dict[str, Any]) -> NoReturn:
        if int(self.port) > MAX_PORT:
            raise CommandError(f"{self.port!r} is not a valid port number.")
        given = {name: options[name] for name in DEFAULTS if options.get(name) is not None}
        development.start(
            argv=development.same_command(),
            root=dependency_files.script_directory(sys.argv[0]),
            host=self.addr,
            port=int(self.port),
            defaults=DEFAULTS,
            flags=given,
            environ=self._environ(options),
        )

    def _environ(self, options: dict[str, Any]) -> dict[str, str]:
        """The additional environment variables of the preloader."""
        environ = {RELOADER_VARIABLE: "true"} if options["use_reloader"] else {}
        if not options["no_color"] and colours.are_wanted(os.environ):
            environ[internal_variables.COLOUR] = "1"
        return environ

    def _preload(self, options: dict[str, Any]) -> None:
        if options["use_reloader"]:
            autoreload.announce()
        self.server_cls = cast(Any, type("Server", (PreloadingServer,), {"command": self, "options": options}))
        # check_errors remembers the file of an error, so that Django's reloaders watch it.
        django_autoreload.check_errors(self.inner_run)(None, **options)

    def on_bind(self, server_port: int) -> None:
        """In a preloader, print nothing yet: Django calls this before the application is loaded (see `announce`)."""
        if not development.inside_preloader():
            super().on_bind(server_port)

    def announce(self, urls: list[str]) -> None:
        """Print Django's banner."""
        super().on_bind(urlsplit(urls[0]).port or int(self.port))
        own_lines.flush()


class PreloadingServer:
    """The server class in place of Django's WSGIServer. It has no sockets: the watchdog holds them."""

    command: Runserver
    options: dict[str, Any]

    def __init__(self, address: tuple[str, int], handler: object, **_: object) -> None:
        self.server_port = address[1]

    def set_app(self, application: WSGIApplication) -> None:
        """Set the application that the workers will call."""
        self._application = application

    def serve_forever(self) -> NoReturn:
        """Become the preloader. Raises `OSError`, as Django's server does, if the watchdog did not bind the address."""
        if self.options["force_color"] and internal_variables.COLOUR in os.environ:
            # Not earlier, because loading the application sets up Django and its loggers again.
            colours.force_on_loggers()
        connections.close_all()
        own_lines.flush()
        try:
            development.serve(
                lambda: self._application,
                banner=self.command.announce,
                watch=autoreload.DjangoFileWatch() if self.options["use_reloader"] else None,
                log_request=log_request,
                framework=FRAMEWORK,
            )
        except ListenError as error:
            raise OSError(error.errno, str(error)) from error


def subclass(base: type[BaseCommand]) -> type[BaseCommand]:
    """A subclass of the runserver `base` that is served by appsrv."""
    if issubclass(base, Runserver):
        return base
    attributes = {"__module__": __name__, "__doc__": base.__doc__}
    return type("Command", (Runserver, base), attributes)


def _add_number(group: argparse._ArgumentGroup, flag: str, text: str) -> None:
    try:
        group.add_argument(flag, type=int, metavar="N", help=text)
    except argparse.ArgumentError:
        # The replaced runserver has an option of this name; that one stays.
        return
