"""The command line: `appsrv start`, `status` and the others, each a function here; `appsrv --help` lists them.

The only module that prints. It turns words into calls: what a setting is stands in `config`, where an
application is in `finder`, which instance is meant in `instance`, how things look in `text`. Exit codes are those
of the errors. Whatever only one command needs is imported by that command, so that `status` answers at once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import linecache
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from appsrv import __version__, config, instance, pid_file, text
from appsrv.errors import AdminError, AppLoadError, AppsrvError, NotRunning, OperatorError, SettingsError
from appsrv.instance import Instance, InstanceInfo
from appsrv.loader import is_below
from appsrv.text import wants_colour

if TYPE_CHECKING:
    from appsrv.client import AdminClient
    from appsrv.top import Reading

Command = TypeVar("Command", bound=Callable[..., Any])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors are one line on stderr, `appsrv: error: ...`."""
    try:
        result = commands.main(arguments, prog_name="appsrv", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        return _usage_error(error)
    except click.ClickException as error:
        return _say_error(error.format_message(), error.exit_code)
    except AppsrvError as error:
        return _own_error(error)
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not complain when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _usage_error(error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    _say_error(error.format_message(), error.exit_code)
    if error.ctx is not None:
        click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)
    return error.exit_code


def _own_error(error: AppsrvError) -> int:
    if isinstance(error, AppLoadError) and error.traceback:
        click.echo(text.printable(error.traceback.rstrip("\n")), err=True)
    return _say_error(str(error), error.exit_code)


def _say_error(message: str, exit_code: int) -> int:
    click.echo(f"appsrv: error: {message}", err=True)
    return exit_code


def _no_colour(_: click.Context, __: click.Parameter, chosen: bool) -> None:
    """As the variable: then everything that colours something, now or in a process started later, knows."""
    if chosen:
        os.environ["NO_COLOR"] = "1"


_NO_COLOUR = click.Option(
    ["--no-color"], is_flag=True, expose_value=False, callback=_no_colour, help="No colours; like NO_COLOR=1."
)


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
    from appsrv import finder, hosting
    from appsrv.app_group import AppGroup
    from appsrv.launch import run

    environ = config.environment()
    here = working_directory(environ)
    directory = finder.project_directory(app, here)
    settings = config.load(flags, environ, directory, cwd=here)
    if hosting.is_hosting(settings, directory):
        return _start_several(app, settings, directory, environ)
    spec = finder.find(app, here, environ, settings.app)
    groups = [AppGroup.alone(spec, settings)]
    return run(settings, spec.root, groups, announce=announce, environ=environ)


def _start_several(app: str | None, settings: config.Settings, directory: Path, environ: Mapping[str, str]) -> int:
    from appsrv import hosting
    from appsrv.launch import run

    if app is not None and directory == working_directory(environ):
        raise SettingsError(f"{app}: {directory} has several applications ([[apps]], apps_directory); leave APP out")
    hosted = hosting.hosted(settings, directory, environ)
    # In the foreground the log is shown, which says it too.
    for name, problem in hosted.problems.items() if settings.daemonize or not hosted.groups else ():
        _say_error(f"{name} is not served: {problem}", SettingsError.exit_code)
    if not hosted.groups and settings.apps_directory is None:
        raise SettingsError(f"{directory}: none of the applications can be served")
    root = os.path.abspath(directory)
    return run(settings, root, hosted.groups, announce=announce, environ=environ, problems=hosted.problems)


def announce(info: InstanceInfo) -> None:
    """The banner, once the application is being served."""
    click.echo(text.banner(info))
    sys.stdout.flush()


def _setting_options() -> Iterable[click.Option]:
    for row in config.ROWS:
        names = [name for name in (row.flag, row.long_flag) if name]
        described = f"{row.help.replace('`', '')} [{row.default_text.replace('`', '')}]"
        if row.key_only:
            continue
        if row.is_boolean:
            names[-1] += f"/--no-{row.long_flag[2:]}"
            yield click.Option(names, default=None, help=described)
        else:
            yield click.Option(names, metavar=row.metavar, default=None, multiple=row.several, help=described)


class GroupedCommand(click.Command):
    """A command whose help shows the settings in the groups of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One section for each group, and one for what is no setting."""
        groups = {row.name: row.group for row in config.ROWS}
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
        params=[click.Argument(["app"], required=False), *_setting_options(), _NO_COLOUR],
        context_settings={"help_option_names": ["-h", "--help"]},
    )
)


def working_directory(environ: Mapping[str, str]) -> Path:
    """As the shell shows it: `/srv/shop/current` stays a link, which the next deployment will turn."""
    logical = environ.get("PWD", "")
    try:
        if os.path.isabs(logical) and os.path.samefile(logical, os.getcwd()):
            return Path(os.path.normpath(logical))
        return Path.cwd()
    except FileNotFoundError:
        raise OperatorError("the current directory has been removed: change to another one") from None


# -- init --------------------------------------------------------------------------------------------------


@commands.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--django-app", is_flag=True, help="Also put appsrv_django into INSTALLED_APPS.")
@click.option("-y", "--yes", is_flag=True, help="Write without asking.")
def init(directory: Path | None, django_app: bool, yes: bool) -> int:
    """Add to a project what it lacks to be served by appsrv.

    The dependency, and all settings with their defaults, commented out. Shows what would change, and asks.
    """
    from appsrv import finder, first_steps

    here = (directory or working_directory(config.environment())).absolute()
    settings_file = finder.django_settings_file(here, config.environment()) if django_app else None
    wanted = first_steps.changes(here, settings_file)
    if not wanted:
        click.echo("This project has everything: try appsrv start.")
        return 0
    colour = wants_colour(config.environment(), sys.stdout.isatty())
    click.echo("".join(text.coloured_diff(change.diff(here), colour=colour) for change in wanted), color=colour)
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
    from appsrv import config_files

    front = config_files.front_server(**{name: options.pop(name) for name in config_files.FRONT_OPTIONS})
    environ = config.environment()
    name, here = options.pop("name"), working_directory(environ)
    click.echo(config_files.render(program, app, options, environ, here, front, name), nl=False)
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

commands.add_command(
    click.Command(
        "config",
        callback=print_config,
        help=print_config.__doc__,
        params=[
            click.Argument(["program"], type=click.Choice(_PROGRAMS)),
            click.Argument(["app"], required=False),
            *_CONFIG_OPTIONS,
            # The place that the web server gives it is not that which it has among the applications of an instance.
            *(option for option in _setting_options() if option.name not in {one.name for one in _CONFIG_OPTIONS}),
        ],
    )
)


# -- which instance ----------------------------------------------------------------------------------------


def _instance_options(command: Command) -> Command:
    """NAME, --port and --pid-file: how every command says which instance it means."""
    for add in (
        click.option("--pid-file", type=click.Path(path_type=Path), metavar="PATH", help="By its pid file."),
        click.option("-p", "--port", type=int, metavar="NUMBER", help="The instance on that port."),
    ):
        command = add(command)
    return command


def _find(name: str | None, port: int | None, pid_file: Path | None) -> tuple[Instance, AdminClient]:
    """The instance that is meant, and the way to talk to it. Raises NotRunning and SeveralInstances."""
    running, here = _running()
    one = instance.select(running, here, name=name, port=port, pid_file=pid_file)
    return one, _client(one)


def _running() -> tuple[list[Instance], Path]:
    environ = config.environment()
    return instance.list_instances(instance.bases(environ)), working_directory(environ)


def _client(one: Instance) -> AdminClient:
    from appsrv.client import AdminClient

    return AdminClient(one.admin_socket, one.is_alive)


def _failed(error: NotRunning) -> OperatorError:
    """3 is what `status` says; a command that could not do its work has failed like any other."""
    return AdminError(str(error))


# -- status ------------------------------------------------------------------------------------------------


@commands.command(params=[_NO_COLOUR])
@click.argument("name", required=False)
@_instance_options
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="More about applications and workers.")
@click.option(
    "--show", type=click.Choice(["pool", "requests", "deaths", "server"]), default="pool", help="What to show [pool]."
)
def status(
    name: str | None, port: int | None, pid_file: Path | None, as_json: bool, verbose: bool, show: str
) -> int:
    """Show what a running appsrv is doing.

    NAME is the (beginning of the) name of an instance; without it, the one of the current directory.

    Exit codes: 0 running, 1 dead but its pid file is there, 3 not running.
    """
    try:
        client = _find(name, port, pid_file)[1]
        answer = client.status()
        requests = client.requests() if show == "requests" else []
    except NotRunning as error:
        raise _with_stale_pid_file(error, pid_file, named=bool(name or port)) from None
    if as_json:
        click.echo(json.dumps({"requests": requests} if show == "requests" else answer, indent=2))
    else:
        _show_report(answer, requests, verbose, show)
    return 0


def _show_report(answer: dict[str, Any], requests: list[dict[str, Any]], verbose: bool, show: str) -> None:
    now, colour = time.time(), wants_colour(config.environment(), sys.stdout.isatty())
    if show == "requests":
        report = text.requests_report(answer, requests, now, colour=colour)
    elif show == "server":
        report = text.server_report(answer, now, colour=colour)
    elif show == "deaths":
        report = text.deaths_report(answer, now, colour=colour)
    else:
        report = text.status_report(answer, now, colour=colour, verbose=verbose)
    click.echo(report, color=colour)


def _with_stale_pid_file(error: NotRunning, named_file: Path | None, *, named: bool) -> NotRunning:
    """Exit code 1 (LSB) when a pid file says that an instance has died without tidying up."""
    if named_file is not None:
        left = named_file if pid_file.is_stale(named_file) else None
    else:
        left = None if named else pid_file.stale(Path.cwd())
    if left is None:
        return error
    dead = NotRunning(f"appsrv is not running, but its pid file {left} is there: it was killed.")
    dead.exit_code = 1
    return dead


# -- top ---------------------------------------------------------------------------------------------------


@commands.command(params=[_NO_COLOUR])
@click.argument("name", required=False)
@_instance_options
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=1.0, metavar="SECONDS", help="Between two looks [1]."
)
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="COUNT", help="Print so many times, and end.")
@click.option(
    "--sort", type=click.Choice(["cpu", "memory", "requests", "age"]), default="cpu", help="Highest first [cpu]."
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each look.")
def top(
    name: str | None, port: int | None, pid_file: Path | None, interval: float, count: int | None, sort: str,
    as_json: bool,
) -> int:
    """Watch the workers of a running appsrv: what each does, uses and has done.

    On a terminal the table is live, ? shows the keys. Otherwise, and with -n, it is printed once per interval.
    NAME is the (beginning of the) name of an instance; without it, the one of the current directory.
    """
    from appsrv.top import Reading

    one, client = _find(name, port, pid_file)

    def read() -> Reading:
        return Reading(client.status(), client.requests())

    if as_json or count or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _print_top(read, sort[0], interval, count, as_json=as_json)
    else:
        _watch_top(read, sort[0], interval, one, client)
    return 0


def _print_top(read: Callable[[], Reading], sort: str, interval: float, count: int | None, *, as_json: bool) -> None:
    from appsrv import top as shows

    before, now = None, read()
    for number in itertools.count(1):
        shown = shows.summary(now, before, sort)
        click.echo(json.dumps(shows.as_json(shown)) if as_json else shows.plain(shown, sort) + "\n")
        sys.stdout.flush()
        if number == count:
            return
        time.sleep(interval)
        before, now = now, read()


def _watch_top(read: Callable[[], Reading], sort: str, interval: float, one: Instance, client: AdminClient) -> None:
    from appsrv.top_screen import Actions, Screen, Top

    def restart(group: str) -> str:
        outcome = next((one for one in client.restart(group) if one.get("name") == group), {})
        if outcome.get("ok"):
            return f"{group} restarted"
        return f"{group} was not restarted: {outcome.get('message') or 'it has gone'}"

    def detach(pid: int) -> str:
        outcome = client.detach(pid)
        return f"worker {pid} detached" if outcome.get("detached") else str(outcome.get("message"))

    actions = Actions(read, lambda pid: text.stacks(_stacks(one, pid), linecache.getline).splitlines(), detach, restart)
    colour = wants_colour(config.environment(), True)
    Top(Screen(sys.stdin.fileno(), sys.stdout.fileno()), actions, sort=sort, interval=interval, colour=colour).run()


# -- stop --------------------------------------------------------------------------------------------------


@commands.command(short_help="Stop a running appsrv gracefully.")
@click.argument("name", required=False)
@_instance_options
@click.option("-i", "--ignore-pid-not-found", is_flag=True, help="Nothing to stop is no error.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=60.0, metavar="SECONDS", help="How long to wait [60]."
)
def stop(
    name: str | None, port: int | None, pid_file: Path | None, ignore_pid_not_found: bool, timeout: float
) -> int:
    """Stop a running appsrv: requests that are being served are finished first.

    NAME is the (beginning of the) name of an instance; without it, the one of the current directory.
    """
    try:
        one, client = _find(name, port, pid_file)
    except NotRunning as error:
        if ignore_pid_not_found:
            return 0
        raise _failed(error) from None
    click.echo("Stopping web server...", nl=False)
    _ask_to_stop(one, client)
    _wait_until_gone(one, timeout)
    click.echo(" done")
    return 0


def _ask_to_stop(one: Instance, client: AdminClient) -> None:
    """A server that does not listen must not keep anyone from stopping it: the watchdog takes a signal, too."""
    try:
        client.stop()
    except (AdminError, NotRunning):
        if one.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.info.pid, signal.SIGTERM)


def _wait_until_gone(one: Instance, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while one.is_alive():
        if time.monotonic() > deadline:
            click.echo()
            raise AdminError(f"{one.info.root} has not stopped within {timeout:g} s; it runs on PID {one.info.pid}")
        time.sleep(0.02)


# -- restart-app -------------------------------------------------------------------------------------------


@commands.command("restart-app")
@click.argument("path_prefix", required=False, metavar="[PATH_PREFIX]")
@click.option("--instance", "name", metavar="NAME", help="In the instance of that name only.")
@_instance_options
@click.option("--ignore-app-not-running", is_flag=True, help="No such application is no error.")
@click.option(
    "--parallel", type=click.IntRange(min=1), metavar="NUMBER",
    help="Workers to replace at a time [the setting restart_parallel].",
)
def restart_app(
    path_prefix: str | None,
    name: str | None,
    port: int | None,
    pid_file: Path | None,
    ignore_app_not_running: bool,
    parallel: int | None,
) -> int:
    """Restart applications without losing a request.

    Those at or below PATH_PREFIX: a path, . for the current directory, / for all. Without it, a menu is shown.
    Waits for the outcome: new code that does not start leaves the previous one serving, the exit code is 1.
    """
    clients = [_client(one) for one in _candidates(name, port, pid_file)]
    groups = [(client, group) for client in clients for group in _groups(client)]
    if path_prefix is None:
        chosen = _ask_which(groups)
    else:
        prefix = os.path.normpath(working_directory(config.environment()) / path_prefix)
        chosen = [(client, group) for client, group in groups if _is_group_below(group, prefix)]
    if not chosen and path_prefix is not None and not ignore_app_not_running:
        raise AdminError(f"There are no applications running whose paths begin with '{path_prefix}'.")
    return max([_restart(client, group, parallel) for client, group in chosen], default=0)


def _is_group_below(group: Mapping[str, Any], prefix: str) -> bool:
    return any(is_below(group.get(place) or "", prefix) for place in ("name", "root"))


def _candidates(name: str | None, port: int | None, pid_file: Path | None) -> list[Instance]:
    """All instances, since a path says enough, unless one of them is named."""
    running, here = _running()
    if name is None and port is None and pid_file is None:
        return running
    try:
        return [instance.select(running, here, name=name, port=port, pid_file=pid_file)]
    except NotRunning as error:
        raise _failed(error) from None


def _groups(client: AdminClient) -> list[dict[str, Any]]:
    try:
        groups: list[dict[str, Any]] = client.status().get("app_groups", [])
    except NotRunning:  # has ended since it was listed
        return []
    return groups


_Choice = tuple["AdminClient", dict[str, Any]]


def _ask_which(groups: Sequence[_Choice]) -> list[_Choice]:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("name the path of an application, or / for all: there is no terminal to ask on")
    if not groups:
        raise AdminError("There are no applications running.")
    from appsrv import menu

    colour = wants_colour(config.environment(), True)
    click.echo("Please select the application to restart.")
    click.echo(_grey("Tip: re-run this command with --help to learn how to automate it.", colour))
    click.echo(_grey("If the menu doesn't display correctly, press '!'", colour) + "\n")
    sys.stdout.flush()
    titles = [text.group_title(group) for _, group in groups]
    chosen = menu.choose(titles, sys.stdin.fileno(), sys.stdout.fileno())
    click.echo()
    return [] if chosen is None else [groups[chosen]]


def _grey(line: str, colour: bool) -> str:
    return click.style(line, fg="bright_black") if colour else line


def _restart(client: AdminClient, group: Mapping[str, Any], parallel: int | None) -> int:
    title = text.group_title(group)
    click.echo(f"Restarting {title}")
    sys.stdout.flush()
    outcomes = [one for one in client.restart(group["name"], parallel) if one.get("name") == group["name"]]
    if not outcomes:
        return _say_error(f"{title} has gone before it was restarted", 1)
    return 0 if outcomes[0].get("ok") else _restart_failed(title, outcomes[0])


def _restart_failed(title: str, outcome: Mapping[str, Any]) -> int:
    if outcome.get("traceback"):
        click.echo(text.printable(outcome["traceback"]).rstrip("\n"), err=True)
    reason = text.printable(outcome.get("message") or "no reason is known")
    return _say_error(f"{title} was not restarted, its previous code keeps serving: {reason}", 1)


# -- logs --------------------------------------------------------------------------------------------------


@commands.command(params=[_NO_COLOUR])
@click.argument("name", required=False)
@_instance_options
@click.option("-f", "--follow", is_flag=True, help="Go on with every line that comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="NUMBER", help="At most so many of the last [all].")
@click.option("--request", metavar="ID", help="Those of one request: its id is in error pages and the access log.")
@click.option("--worker", type=click.IntRange(min=1), metavar="PID", help="Those of one worker, or about it.")
@click.option("--app", metavar="PATH", help="Of several applications, the one at or below this path: its own log.")
@click.option("--since", metavar="TIME", help="Not older than 10m, 2h, 3d, or a date and time.")
@click.option(
    "--log-file", type=click.Path(path_type=Path), metavar="PATH", help="This file, whether or not anything runs."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each line.")
def logs(
    name: str | None, port: int | None, pid_file: Path | None, follow: bool, lines: int | None, request: str | None,
    worker: int | None, app: str | None, since: str | None, log_file: Path | None, as_json: bool,
) -> int:
    """Show the server log: what appsrv reports and what the application prints.

    NAME is the (beginning of the) name of an instance; without it, the one of the current directory. Where it has
    several applications, what they print is in logs of their own: see --app.
    """
    from datetime import datetime

    from appsrv import log_reader

    try:
        wanted = log_reader.Wanted(request, worker, since and log_reader.since(since, datetime.now()))
    except ValueError:
        raise click.UsageError(f"--since takes 10m, 2h, 3d, 2026-01-31 or '2026-01-31 12:00', not {since}") from None
    path = log_file or _log_of(name, port, pid_file, app)
    found = log_reader.follow(path, wanted, lines) if follow else log_reader.last(path, wanted, lines)
    colour = wants_colour(config.environment(), sys.stdout.isatty())
    for line in found:
        click.echo(json.dumps(line.to_json()) if as_json else text.log_line(line.raw, line.level, colour=colour))
        sys.stdout.flush()
    return 0


def _log_of(name: str | None, port: int | None, pid_file: Path | None, app: str | None) -> Path:
    running, here = _running()
    try:
        one = instance.select(running, here, name=name, port=port, pid_file=pid_file)
        log_file = one.info.log_file if app is None else _log_of_group(_client(one), os.path.normpath(here / app))
    except NotRunning as error:
        raise _failed(NotRunning(f"{error} To read a file: appsrv logs --log-file PATH")) from None
    if log_file is None:
        raise AdminError("this instance keeps no log file")
    return Path(log_file)


def _log_of_group(client: AdminClient, prefix: str) -> str | None:
    groups = [group for group in client.status().get("app_groups", []) if _is_group_below(group, prefix)]
    if len(groups) != 1:
        raise AdminError(f"{len(groups)} of the applications are at or below {prefix}: name one (appsrv status)")
    found: str | None = groups[0].get("log_file")
    return found


# -- reopen-logs -------------------------------------------------------------------------------------------


@commands.command("reopen-logs", short_help="Open the log anew after rotation.")
@click.argument("name", required=False)
@_instance_options
def reopen_logs(name: str | None, port: int | None, pid_file: Path | None) -> int:
    """Open the server log anew, after it was renamed by log rotation."""
    try:
        _find(name, port, pid_file)[1].reopen_logs()
    except NotRunning as error:
        raise _failed(error) from None
    click.echo("All done")
    return 0


# -- detach-process ----------------------------------------------------------------------------------------


@commands.command("detach-process")
@click.argument("pid", type=click.IntRange(min=1))
def detach_process(pid: int) -> int:
    """Let a worker finish what it is doing and leave.

    PID is that of the worker (see `appsrv status`). Where a successor is needed, it is ready first. Waits until the
    worker has left.
    """
    outcome = _client(_instance_of(pid)).detach(pid)
    if not outcome.get("detached"):
        raise AdminError(outcome.get("message") or f"worker {pid} has not left")
    click.echo(f"Process {pid} detached.")
    return 0


def _instance_of(pid: int) -> Instance:
    """The instance whose process it is."""
    from appsrv import family

    for one in _running()[0]:
        if family.is_below(pid, one.info.pid):
            return one
    raise AdminError(f"process {pid} belongs to no running appsrv of yours: appsrv status shows the PIDs")


# -- trace -------------------------------------------------------------------------------------------------


@commands.command(params=[_NO_COLOUR])
@click.argument("pid", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="The threads and their frames, as JSON.")
def trace(pid: int, as_json: bool) -> int:
    """Show what all threads of a process are doing, without disturbing it.

    PID is that of a worker (see `appsrv status`), or of any other process of a running appsrv. It answers as well
    when it is stuck, in C code or in a system call.
    """
    answer = _stacks(_instance_of(pid), pid)
    click.echo(json.dumps(answer, indent=2) if as_json else text.stacks(answer, linecache.getline))
    return 0


def _stacks(whose: Instance, pid: int) -> dict[str, Any]:
    import dataclasses

    from appsrv import family
    from appsrv import trace as stacks

    threads = [dataclasses.asdict(thread) for thread in stacks.ask(whose.directory, pid)]
    return {"pid": pid, "title": family.title(pid), "instance": whose.info.name, "threads": threads}


if __name__ == "__main__":
    sys.exit(main())
