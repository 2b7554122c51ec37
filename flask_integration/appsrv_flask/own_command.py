"""`flask appsrv start|status|restart-app|...`: appsrv's own commands for the application of `flask --app`."""

from __future__ import annotations

import os

import click
from flask.cli import ScriptInfo


@click.command(
    "appsrv", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def appsrv(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Run a command of appsrv: start, status, restart-app, stop, ... (flask appsrv --help)."""
    from appsrv.development.exec_appsrv import become_appsrv

    info = ctx.find_object(ScriptInfo)
    # `appsrv start` reads the application of `flask --app` from this variable.
    named = {"FLASK_APP": info.app_import_path} if info is not None and info.app_import_path else {}
    become_appsrv(words, os.getcwd(), {**os.environ, **named})
