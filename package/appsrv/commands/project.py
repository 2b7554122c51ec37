"""The commands that work on a project, whether it is being served or not: `appsrv init` and `appsrv config`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from appsrv.commands import reports
from appsrv.commands.common import print_variable_notices, setting_options, working_directory
from appsrv.settings import sources
from appsrv.system.words import wants_colour

# -- init --------------------------------------------------------------------------------------------------


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--django-app", is_flag=True, help="Also put appsrv_django into INSTALLED_APPS.")
@click.option("-y", "--yes", is_flag=True, help="Write without asking.")
def init(directory: Path | None, django_app: bool, yes: bool) -> int:
    """Add to a project what it lacks to be served by appsrv.

    The dependency, and all settings with their defaults, commented out. Shows what would change, and asks.
    """
    from appsrv.apps import finder
    from appsrv.commands import init as first_steps

    here = (directory or working_directory(sources.environment())).absolute()
    settings_file = finder.django_settings_file(here, sources.environment()) if django_app else None
    wanted = first_steps.changes(here, settings_file)
    if not wanted:
        click.echo("This project has everything: try appsrv start.")
        return 0
    colour = wants_colour(sources.environment(), sys.stdout.isatty())
    click.echo("".join(reports.coloured_diff(change.diff(here), colour=colour) for change in wanted), color=colour)
    if not yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("nothing was written: there is no terminal to ask on; add --yes")
    if not yes and not click.confirm("Write this?"):
        return 1
    for change in wanted:
        change.path.write_text(change.after, encoding="utf-8")
    click.echo("Done. Next: appsrv start")
    return 0


# -- config ------------------------------------------------------------------------------------------------


def print_config(program: str, app: str | None, **options: Any) -> int:
    """Print a configuration of PROGRAM for the project: nginx, apache, systemd, logrotate or docker.

    It is for what `appsrv start APP` with the same settings serves, whether they are given here, in variables or in
    the project's files. Nothing is written and nothing of the project imported.
    """
    from appsrv.commands.config import survey

    front = survey.front_server(**{name: options.pop(name) for name in survey.FRONT_OPTIONS})
    environ = sources.environment()
    print_variable_notices(environ)
    name, here = options.pop("name"), working_directory(environ)
    click.echo(survey.render(program, app, options, environ=environ, here=here, front=front, name=name), nl=False)
    return 0


_PROGRAMS = ("nginx", "apache", "systemd", "logrotate", "docker")
_CONFIG_OPTIONS = (
    click.Option(["--name"], metavar="NAME", help="What the service is called [the project's directory]."),
    click.Option(["--server-name"], metavar="HOST", multiple=True, help="A host it is for; repeatable [any]."),
    click.Option(["--base-uri"], metavar="PATH", help="Serve it below this path, such as /shop."),
    click.Option(["--listen"], metavar="[ADDRESS:]PORT", help="Where the web server listens [80]."),
    click.Option(["--tls-listen"], metavar="[ADDRESS:]PORT", help="Where it listens for https [443]."),
    click.Option(["--certificate"], metavar="PATH", help="The web server's certificate: it serves https."),
    click.Option(["--certificate-key"], metavar="PATH", help="The key of that certificate."),
    click.Option(["--web-log-dir"], metavar="PATH", help="Where the web server logs [where it does on Debian]."),
)

config_command = click.Command(
    "config",
    callback=print_config,
    help=print_config.__doc__,
    params=[
        click.Argument(["program"], type=click.Choice(_PROGRAMS)),
        click.Argument(["app"], required=False),
        *_CONFIG_OPTIONS,
        # The option --base-uri above is the path in the web server. The setting of the same name, the path among the
        # applications of an instance, is left out.
        *(option for option in setting_options() if option.name not in {one.name for one in _CONFIG_OPTIONS}),
    ],
)
