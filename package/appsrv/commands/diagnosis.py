"""The commands that look for mistakes before or while an instance serves: `appsrv check` and `appsrv doctor`."""

from __future__ import annotations

import json
from typing import Any

import click

from appsrv.commands.common import (
    print_error,
    print_variable_notices,
    print_warnings,
    setting_options,
    working_directory,
)
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
    print_warnings(report.warnings)
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


# -- doctor ------------------------------------------------------------------------------------------------


def doctor(app: str | None, web_user: str | None, imports: bool, as_json: bool, **flags: Any) -> int:
    """Look for what will go wrong: a numbered list of findings, each with its place and a remedy.

    Looks at what `appsrv start APP` with the same settings would use: permissions, limits of the system, memory,
    modules, directories to write to; and at a running instance of this directory. Imports the application once, in a
    process of its own, as its user and within start_timeout.

    Exit codes: 0 no findings, 1 findings, 2 an error in the settings, 4 no application found.
    """
    from appsrv.commands.doctor import report, survey

    environ = sources.environment()
    facts = survey.collect(
        app, flags, environ, working_directory(environ), web_user=web_user, imports=imports
    )
    findings = report.findings_of(facts)
    if as_json:
        click.echo(json.dumps(report.as_json(facts, findings), indent=2))
    else:
        print_variable_notices(environ)
        click.echo(report.as_text(facts, findings))
    return 1 if findings else 0


doctor_command = click.Command(
    "doctor",
    callback=doctor,
    help=doctor.__doc__,
    params=[
        click.Argument(["app"], required=False),
        click.Option(["--import/--no-import", "imports"], default=True, help="Import the application once [import]."),
        click.Option(
            ["--web-user"], metavar="NAME", help="The user of the web server [that of nginx or Apache on this machine]."
        ),
        _JSON,
        *setting_options(),
    ],
)
