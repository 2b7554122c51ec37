"""Decides whether appsrv or the original command serves a runserver. It starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.management.base import BaseCommand
from django.core.management.commands.runserver import Command as CoreCommand
from django.core.servers.basehttp import WSGIServer

from appsrv.apps import dependency_files
from appsrv.development.takeover import debugger_attached, switched_off
from appsrv.settings.internal_variables import PRELOADER, RUNSERVER

RELOADER_VARIABLE = "RUN_MAIN"

OURS = "appsrv_django"
REPLACED = ("django.core", "django.contrib.staticfiles", "whitenoise.runserver_nostatic")
"""The applications whose runserver appsrv may replace: they change what is served, not the server itself."""


def replacement(app_name: str, command: BaseCommand) -> BaseCommand:
    """The result of load_command_class for runserver: appsrv's command if the project names appsrv, else `command`."""
    # In a preloader appsrv serves already, and the watchdog holds the address, which Django's own server could not
    # bind. So the dependency files are not read again: they may be incomplete during a save, or belong to another
    # branch.
    if app_name == OURS or not (PRELOADER in os.environ or (not switched_off(os.environ) and project_names_appsrv())):
        return command
    if app_name not in REPLACED:
        _print_reason(app_name)
        return command
    from appsrv_django.runserver import subclass

    return subclass(type(command))()


def project_names_appsrv() -> bool:
    """Whether the dependency files of the project, whose manage.py is running, name appsrv."""
    return dependency_files.names_appsrv(dependency_files.script_directory(sys.argv[0]))


def _print_reason(app_name: str) -> None:
    if sys.argv[1:2] == ["runserver"] and os.environ.get(RELOADER_VARIABLE) != "true":
        sys.stderr.write(f"appsrv steps aside: runserver is provided by {app_name}.\n")


def reason_to_step_aside(
    command: BaseCommand, options: Mapping[str, Any], environ: Mapping[str, str], modules: Iterable[str]
) -> str | None:
    """The reason why the original command has to serve, or None. `modules`: the names of the loaded modules."""
    if switched_off(environ):
        return f"{RUNSERVER} is off"
    if not getattr(command, "_called_from_command_line", False):
        return "it was called by code, as `testserver` does, and not typed"
    if sys.platform == "win32":
        return "appsrv needs fork(), which Windows does not have"
    if not options["use_threading"]:
        return "--nothreading was given"
    if debugger_attached(modules):
        return "a debugger is attached"
    if environ.get(RELOADER_VARIABLE) == "true":
        return "it runs inside Django's own reloader"
    if serves_itself(type(command)):
        return "this runserver brings its own server"
    return None


def serves_itself(command: type[BaseCommand]) -> bool:
    """Whether a runserver replaces the part of Django's command that starts the server, as daphne's does."""
    if not issubclass(command, CoreCommand):
        return True
    replaced = [cls for cls in command.__mro__ if "inner_run" in vars(cls) or "run" in vars(cls)]
    others = [cls for cls in replaced if cls is not CoreCommand and not cls.__module__.startswith(f"{OURS}.")]
    return bool(others) or command.server_cls is not WSGIServer
