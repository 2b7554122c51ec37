"""The command line: `main` and `appsrv start`. The other commands are in `commands/`.

Only the modules of commands print. They turn arguments into calls: `settings/` knows the settings, `apps/finder` finds
the application, `instance/run_directory` finds the instance, `commands/reports` makes the text. The exit codes are
those of the errors. A command imports the modules that only it needs itself, so that `appsrv status` starts fast.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from appsrv import __version__
from appsrv.commands import reports
from appsrv.commands.common import NO_COLOUR, print_error, print_variable_notices, setting_options, working_directory
from appsrv.commands.control import detach_process, reopen_logs, restart_app, stop
from appsrv.commands.diagnosis import check_command, doctor_command
from appsrv.commands.project import config_command, import_command, init
from appsrv.commands.show import logs, status, top, trace
from appsrv.errors import AppLoadError, AppsrvError, SettingsError
from appsrv.instance.run_directory import InstanceInfo
from appsrv.settings import sources
from appsrv.settings.table import ROWS, Settings
from appsrv.system.words import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. An error is one line on stderr, `appsrv: error: ...`.

    `arguments`: without the program's name; by default those of `sys.argv`.
    """
    try:
        result = commands.main(arguments, prog_name="appsrv", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        return _usage_error(error)
    except click.ClickException as error:
        return print_error(error.format_message(), error.exit_code)
    except AppsrvError as error:
        return _own_error(error)
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of the output has closed the pipe. At exit the interpreter flushes stdout, which would raise the
        # same error again, so stdout is replaced.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _usage_error(error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    print_error(error.format_message(), error.exit_code)
    if error.ctx is not None:
        click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)
    return error.exit_code


def _own_error(error: AppsrvError) -> int:
    if isinstance(error, AppLoadError) and error.traceback:
        click.echo(printable(error.traceback.rstrip("\n")), err=True)
    return print_error(str(error), error.exit_code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="appsrv %(version)s")
def commands() -> None:
    """An application server for Django, Flask and any WSGI application."""


@commands.command()
def version() -> None:
    """Show the version."""
    click.echo(f"appsrv {__version__}")


# -- start -------------------------------------------------------------------------------------------------


def start(app: str | None, **flags: object) -> int:
    """Serve the application APP.

    APP is module:callable, module:factory(), a file or a directory. Without it the application is looked for in
    the current directory: the configured one, manage.py, FLASK_APP, wsgi.py, app.py or passenger_wsgi.py.
    """
    from appsrv.apps import finder, hosting
    from appsrv.apps.app_group import AppGroup
    from appsrv.watchdog.start import run

    environ = sources.environment()
    here = working_directory(environ)
    directory = finder.project_directory(app, here)
    settings = sources.load(flags, environ, directory, cwd=here)
    if settings.daemonize:
        print_variable_notices(environ)
    if hosting.is_hosting(settings, directory):
        return _start_several(app, settings, directory, environ)
    spec = finder.find(app, here, environ, settings.app, settings.start_command)
    groups = [AppGroup.alone(spec, settings)]
    return run(settings, spec.root, groups, announce=announce, environ=environ)


def _start_several(app: str | None, settings: Settings, directory: Path, environ: Mapping[str, str]) -> int:
    from appsrv.apps import hosting
    from appsrv.watchdog.start import run

    here = working_directory(environ)
    if app is not None and directory == here and not (here / app).is_dir():
        raise SettingsError(f"{app}: {directory} has several applications ([[apps]], apps_directory); leave APP out")
    hosted = hosting.hosted_apps(settings, directory, environ)
    # In the foreground, the lines of the server log on the terminal name these problems.
    for name, problem in hosted.problems.items() if settings.daemonize or not hosted.groups else ():
        print_error(f"{name} is not served: {problem}", SettingsError.exit_code)
    if not hosted.groups and settings.apps_directory is None:
        raise SettingsError(f"{directory}: none of the applications can be served")
    root = os.path.abspath(directory)
    return run(settings, root, hosted.groups, announce=announce, environ=environ, problems=hosted.problems)


def announce(info: InstanceInfo) -> None:
    """Print the banner; called once the application is being served."""
    click.echo(reports.banner(info))
    sys.stdout.flush()


class GroupedCommand(click.Command):
    """A command whose help shows the settings in the groups of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each group, and one for the options that are not settings."""
        groups = {row.name: row.group for row in ROWS}
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(groups.get(param.name or "", "Other options"), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


commands.add_command(
    GroupedCommand(
        "start",
        callback=start,
        help=start.__doc__,
        params=[click.Argument(["app"], required=False), *setting_options(), NO_COLOUR],
        context_settings={"help_option_names": ["-h", "--help"]},
    )
)

for command in (
    status, top, logs, trace, stop, restart_app, reopen_logs, detach_process, init, config_command, check_command,
    doctor_command, import_command,
):  # fmt: skip
    commands.add_command(command)

if __name__ == "__main__":
    sys.exit(main())
