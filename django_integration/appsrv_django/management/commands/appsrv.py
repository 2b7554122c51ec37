"""`manage.py appsrv start|status|restart-app|...`: appsrv's own commands, in the directory of manage.py."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from appsrv import project
from appsrv.handover import become_appsrv


class Command(BaseCommand):
    """Hands every word on as it is, `--help` included."""

    help = "Runs a command of appsrv for this project: start, status, restart-app, stop, ... (appsrv --help)"
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """For `call_command("appsrv", "status")`."""
        parser.add_argument("words", nargs="*")

    def run_from_argv(self, argv: list[str]) -> None:
        """`argv`: manage.py, appsrv, and what is meant for appsrv."""
        become_appsrv(argv[2:], project.script_directory(argv[0]), os.environ)

    def handle(self, *args: Any, **options: Any) -> None:
        """As typed: there is no way back to who has called."""
        become_appsrv(options["words"], project.script_directory(""), os.environ)
