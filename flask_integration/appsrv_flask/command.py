"""`flask run`: the command that Flask finds by the entry point, in every project of the environment.

It has all options of the built-in command and two of ours. Where the project's dependency files do not name
appsrv, or appsrv cannot do what is asked, it calls the built-in. A failing import here would break every
flask command of the environment: whatever goes wrong, `run` is then the built-in itself.
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
"""In the environment of a preloader, see appsrv.development.run."""


class RunCommand(click.Command):
    """The built-in's twin; shows and takes our options only in a project that names appsrv."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters where appsrv may serve, else the built-in's alone."""
        params = super().get_params(ctx)
        info = ctx.find_object(ScriptInfo)
        if concerns(info.app_import_path if info else None):
            return params
        return [param for param in params if param.name not in OURS]


OURS = ("max_pool_size", "threads")


@click.pass_context
def callback(
    ctx: click.Context, /, max_pool_size: int | None = None, threads: int | None = None, **params: Any
) -> None:
    """Serve with appsrv, or call the built-in with its own parameters."""
    info = ctx.ensure_object(ScriptInfo)
    if not concerns(info.app_import_path):
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
    """The built-in's own function; calling it as a command would name it "flask run run" in its errors."""
    assert run_command.callback is not None
    ctx.invoke(run_command.callback, **params)


def concerns(app: str | None) -> bool:
    """Whether this command is appsrv's: in a preloader always, whatever has become of the dependency files since.

    They may be half saved, or those of another branch; and the watchdog, which has the address, is appsrv.
    """
    from appsrv.development.takeover import switched_off

    return PRELOADER in os.environ or (not switched_off(os.environ) and project_names_appsrv(app))


def reason_to_step_aside(params: Mapping[str, Any], environ: Mapping[str, str], modules: Iterable[str]) -> str | None:
    """Why the built-in has to serve, or None. `modules` are the names of the loaded modules."""
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
    """True when the project of the command, or that of an --app given as a path, names appsrv."""
    from appsrv.apps import dependency_files

    directories = {dependency_files.script_directory(sys.argv[0]): None}
    if app and os.sep in app:
        directories[os.path.dirname(os.path.abspath(app.split(":")[0]))] = None
    return any(dependency_files.names_appsrv(directory) for directory in directories)


def build() -> click.Command:
    """The built-in's twin."""
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
    """In a preloader: before Flask loads the application, which it does once it has found its commands."""
    if PRELOADER in os.environ:
        from appsrv.development import reloader

        reloader.remember_loaded()


try:
    remember_loaded()
    run: click.Command = build()
except Exception:
    # A Flask or click this was not written for.
    run = run_command
