"""`flask run`: the command that Flask finds by the entry point, in every project of the environment.

It has all options of the built-in command and two more. It calls the built-in command if the project's dependency files
do not name appsrv, or if appsrv does not support the options. An error in the import of this module would break every
flask command of the environment, so after any error `run` is the built-in command itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click
from flask.cli import ScriptInfo, run_command

RELOADER_VARIABLE = "WERKZEUG_RUN_MAIN"
PRELOADER = "APPSRV_PRELOADER"
"""Set in the environment of a preloader, see appsrv.development.run."""


class RunCommand(click.Command):
    """A copy of the built-in command. It has appsrv's options only in a project that names appsrv."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters if appsrv may serve, else only those of the built-in command."""
        params = super().get_params(ctx)
        info = ctx.find_object(ScriptInfo)
        if may_serve(info.app_import_path if info else None):
            return params
        return [param for param in params if param.name not in APPSRV_OPTIONS]


APPSRV_OPTIONS = ("max_pool_size", "threads")


@click.pass_context
def callback(
    ctx: click.Context, /, max_pool_size: int | None = None, threads: int | None = None, **params: Any
) -> None:
    """Serve with appsrv, or call the built-in command with its own parameters."""
    info = ctx.ensure_object(ScriptInfo)
    if not may_serve(info.app_import_path):
        call_original(ctx, params)
        return
    from appsrv.development import run as development
    from appsrv_flask import certificate, run_on_appsrv

    options = run_on_appsrv.Options.of(params)
    if development.inside_preloader():
        run_on_appsrv.preload(info, options)
    elif reason_to_step_aside(params, os.environ, sys.modules):
        call_original(ctx, params)
    else:
        flags = {"max_pool_size": max_pool_size, "threads": threads, **certificate.settings_for(params["cert"])}
        run_on_appsrv.start(options, {name: value for name, value in flags.items() if value is not None})


def call_original(ctx: click.Context, params: Mapping[str, Any]) -> None:
    """Call the function of the built-in command. As a command it would appear as "flask run run" in its errors."""
    assert run_command.callback is not None
    ctx.invoke(run_command.callback, **params)


def may_serve(app: str | None) -> bool:
    """Whether appsrv may serve this command: always in a preloader, else if the project names appsrv.

    In a preloader the dependency files are not read again. They may be incomplete during a save, or belong to another
    branch, and the watchdog already holds the address.
    """
    from appsrv.development.takeover import switched_off

    return PRELOADER in os.environ or (not switched_off(os.environ) and project_names_appsrv(app))


def reason_to_step_aside(params: Mapping[str, Any], environ: Mapping[str, str], modules: Iterable[str]) -> str | None:
    """The reason why the built-in command has to serve, or None. `modules`: the names of the loaded modules."""
    from appsrv.development.takeover import debugger_attached

    if sys.platform == "win32":
        return "appsrv needs fork(), which Windows does not have"
    if not params["with_threads"]:
        return "--without-threads was given"
    if params["host"].startswith("unix://"):
        return "it listens on a unix socket"
    if debugger_attached(modules):
        return "a debugger is attached"
    if environ.get(RELOADER_VARIABLE) == "true":
        return "it runs inside Werkzeug's own reloader"
    from appsrv_flask import certificate

    return certificate.reason_to_step_aside(params["cert"])


def project_names_appsrv(app: str | None) -> bool:
    """Whether the project of the command, or that of an --app given as a path, names appsrv."""
    from appsrv.apps import dependency_files

    directories = {dependency_files.script_directory(sys.argv[0]): None}
    if app and os.sep in app:
        directories[os.path.dirname(os.path.abspath(app.split(":")[0]))] = None
    return any(dependency_files.names_appsrv(directory) for directory in directories)


def build() -> click.Command:
    """Make the command from the built-in one."""
    ours: list[click.Parameter] = [
        click.Option(["--max-pool-size"], type=click.IntRange(min=1), help="Worker processes at most. [appsrv]"),
        click.Option(["--threads"], type=click.IntRange(min=1), help="Threads in each worker. [appsrv]"),
    ]
    return RunCommand(
        "run",
        params=[*run_command.params, *ours],
        callback=callback,
        help=run_command.help,
        short_help=run_command.short_help,
    )


def remember_loaded() -> None:
    """In a preloader, remember the state of loaded sources.

    This runs early enough: Flask finds its commands before it loads the application.
    """
    if PRELOADER in os.environ:
        from appsrv.development import reloader

        reloader.remember_loaded()


try:
    remember_loaded()
    run: click.Command = build()
except Exception:
    # This version of Flask or click is not supported.
    run = run_command
