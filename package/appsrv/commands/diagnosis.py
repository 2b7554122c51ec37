"""The commands that look for mistakes before or while an instance serves: `appsrv check` and `appsrv doctor`."""

from __future__ import annotations

import json
from typing import Any

import click

from appsrv.commands.common import print_error, print_variable_notices, setting_options, working_directory
from appsrv.errors import SettingsError
from appsrv.settings import sources

# -- check -------------------------------------------------------------------------------------------------


def check(app: str | None, show_all: bool, as_json: bool, **flags: Any) -> int:
    """Read all settings as `appsrv start APP` would, and show where each value comes from.

    Shows those that differ from the default: the value, and the file with the line, the variable or the flag that it
    is from. All errors are listed, not only the first. Nothing of the application is imported.

    Exit codes: 0 `start` would accept the settings, 2 there are errors.
    """
    from appsrv.commands import settings_check

    environ = sources.environment()
    report = settings_check.examine(app, flags, environ, working_directory(environ))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return SettingsError.exit_code if report.errors else 0
    print_variable_notices(environ)
    if report.values:
        click.echo(settings_check.as_text(report, everything=show_all))
    for error in report.errors:
        print_error(str(error), SettingsError.exit_code)
    return SettingsError.exit_code if report.errors else 0


_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Everything, as JSON.")

check_command = click.Command(
    "check",
    callback=check,
    help=check.__doc__,
    params=[
        click.Argument(["app"], required=False),
        click.Option(["--all", "show_all"], is_flag=True, help="Also the settings that have their default."),
        _JSON,
        *setting_options(),
    ],
)
