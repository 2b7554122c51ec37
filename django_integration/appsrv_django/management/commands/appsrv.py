"""`manage.py appsrv start|status|restart-app|...`: appsrv's own commands, in the directory of manage.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser

from appsrv.apps import dependency_files, finder
from appsrv.development.exec_appsrv import become_appsrv
from appsrv.settings import sources


class Command(BaseCommand):
    """Passes all arguments on unchanged, `--help` included."""

    help = "Runs a command of appsrv for this project: start, status, restart-app, stop, ... (appsrv --help)"
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Accept positional arguments, for `call_command("appsrv", "status")`."""
        parser.add_argument("words", nargs="*")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command. `argv`: manage.py, appsrv, and the arguments for appsrv."""
        _become(argv[2:], dependency_files.script_directory(argv[0]))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command as if typed. It replaces the process, so it does not return to the caller."""
        _become(options["words"], dependency_files.script_directory(""))


def _become(words: list[str], directory: str) -> NoReturn:
    """Replace this process by appsrv, without the environment variables that Django and manage.py have set.

    manage.py sets a settings module for its own commands. In the environment it would win over that of the WSGI module.
    Django sets TZ to the TIME_ZONE of the settings, but the server log uses the machine's time zone.
    """
    first, environ = sources.first_environment(), dict(os.environ)
    named = finder.settings_of_manage(Path(directory))
    if finder.SETTINGS_VARIABLE not in first and named and environ.get(finder.SETTINGS_VARIABLE) == named:
        del environ[finder.SETTINGS_VARIABLE]
    if first and "TZ" not in first:
        environ.pop("TZ", None)
    become_appsrv(words, directory, environ)
