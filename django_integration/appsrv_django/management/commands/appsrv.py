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
    """Hands every word on as it is, `--help` included."""

    help = "Runs a command of appsrv for this project: start, status, restart-app, stop, ... (appsrv --help)"
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """For `call_command("appsrv", "status")`."""
        parser.add_argument("words", nargs="*")

    def run_from_argv(self, argv: list[str]) -> None:
        """`argv`: manage.py, appsrv, and what is meant for appsrv."""
        _become(argv[2:], dependency_files.script_directory(argv[0]))

    def handle(self, *args: Any, **options: Any) -> None:
        """As typed: there is no way back to who has called."""
        _become(options["words"], dependency_files.script_directory(""))


def _become(words: list[str], directory: str) -> NoReturn:
    """Without what Django and manage.py have put into the environment.

    The settings module of manage.py is for its own commands: it would win over that of the WSGI module, as one from
    outside does. TZ is the TIME_ZONE of the settings: the server log is in the machine's time.
    """
    first, environ = sources.first_environment(), dict(os.environ)
    named = finder.settings_of_manage(Path(directory))
    if finder.SETTINGS_VARIABLE not in first and named and environ.get(finder.SETTINGS_VARIABLE) == named:
        del environ[finder.SETTINGS_VARIABLE]
    if first and "TZ" not in first:
        environ.pop("TZ", None)
    become_appsrv(words, directory, environ)
