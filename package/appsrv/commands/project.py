"""The commands that work on a project, served or not: `appsrv init`, `appsrv config` and `appsrv import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from appsrv.commands import reports
from appsrv.commands.common import print_variable_notices, setting_options, working_directory
from appsrv.errors import OperatorError, SettingsError
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
    click.Option(["--name"], metavar="NAME", help="The name of the service [the project's directory]."),
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


# -- import ------------------------------------------------------------------------------------------------


_KINDS = ("gunicorn", "uwsgi", "passenger", "procfile", "supervisord", "systemd")


@click.command("import")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--gunicorn", metavar="COMMAND", help='A command line in place of a file: "gunicorn -w 4 shop.wsgi".')
@click.option("--from", "kind", type=click.Choice(_KINDS), help="What FILE is [by its name and content].")
@click.option("--program", metavar="NAME", help="The program in a Procfile or supervisord.conf.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Write there [standard output].")
@click.option("--force", is_flag=True, help="Write over the file that is there.")
def import_command(
    file: Path | None, gunicorn: str | None, kind: str | None, program: str | None, output: Path | None, force: bool
) -> int:
    """Print an appsrv.toml for the configuration of another server.

    FILE is a gunicorn.conf.py, uwsgi.ini, Passengerfile.json, Procfile, supervisord.conf or a unit of systemd. It is
    read, never executed. A comment stands for each line that has no counterpart.
    """
    from appsrv.commands.importing import convert

    if (file is None) == (gunicorn is None):
        raise click.UsageError('give a FILE, or --gunicorn "gunicorn ..."')
    if gunicorn is not None and (kind or program):
        raise click.UsageError("--from and --program are for a FILE")
    here = working_directory(sources.environment())
    if gunicorn is not None:
        made = convert.from_command_line(gunicorn, here, _text_of, "appsrv import --gunicorn")
    else:
        path = here / (file or "")
        title = f"appsrv import {file}"
        made = convert.from_file(path, _read(path), _text_of, title=title, kind=kind, program=program)
    if output is None or str(output) == "-":
        click.echo(made.text, nl=False)
        return 0
    _write_new(output, made.text, force=force)
    elsewhere = made.directory != (here / output).parent
    move = f" It belongs into {made.directory}: move it there." if elsewhere else ""
    click.echo(f"{output} is written.{move} Read its comments, then run appsrv check and appsrv start.", err=True)
    return 0


def _read(path: Path) -> str:
    """The text of a file. Raises `SettingsError`."""
    try:
        if path.exists() and not path.is_file():
            # Opening a FIFO would block until a process opens it for writing (fifo(7)).
            raise SettingsError(f"{path} cannot be read: it is no file; name the file of the settings")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; name the file of the settings") from None
    except ValueError:
        raise SettingsError(f"{path} cannot be read: it is no text in UTF-8; convert it, then import it") from None


def _text_of(path: Path) -> str | None:
    """The text of a file; None if it cannot be read."""
    try:
        return _read(path)
    except SettingsError:
        return None


def _write_new(path: Path, text: str, *, force: bool) -> None:
    """Write the file; one that is there is kept unless `force` is given. Raises `OperatorError`."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SettingsError(f"{path} is there already and was left as it is: --force writes over it") from None
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}") from None
