"""The commands that show the state of a running instance: `status`, `top`, `logs` and `trace`."""

from __future__ import annotations

import itertools
import json
import linecache
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appsrv.commands import reports
from appsrv.commands.common import (
    NO_COLOUR,
    as_failure,
    client_of,
    find,
    instance_of,
    instance_options,
    running,
    select_application,
)
from appsrv.errors import AdminError, NotRunning
from appsrv.instance import pid_file, run_directory
from appsrv.instance.run_directory import Instance
from appsrv.settings import sources
from appsrv.system.words import printable, wants_colour

if TYPE_CHECKING:
    from appsrv.commands.top_table import Reading
    from appsrv.instance.admin_client import AdminClient

# -- status ------------------------------------------------------------------------------------------------


@click.command(params=[NO_COLOUR])
@click.argument("name", required=False)
@instance_options
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="More about applications and workers.")
@click.option(
    "--show", type=click.Choice(["pool", "requests", "deaths", "server"]), default="pool",
    help="The report to show [pool].",
)
def status(
    name: str | None, port: int | None, pid_file: Path | None, as_json: bool, verbose: bool, show: str
) -> int:
    """Show what a running appsrv is doing.

    NAME is the (beginning of the) name of an instance; without it, the one of the current directory.

    Exit codes: 0 running, 1 dead but its pid file is there, 3 not running.
    """
    try:
        client = find(name, port, pid_file)[1]
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
    now, colour = time.time(), wants_colour(sources.environment(), sys.stdout.isatty())
    if show == "requests":
        report = reports.requests_report(answer, requests, now, colour=colour)
    elif show == "server":
        report = reports.server_report(answer, now, colour=colour)
    elif show == "deaths":
        report = reports.deaths_report(answer, now, colour=colour)
    else:
        report = reports.status_report(answer, now, colour=colour, verbose=verbose)
    click.echo(report, color=colour)


def _with_stale_pid_file(error: NotRunning, named_file: Path | None, *, named: bool) -> NotRunning:
    """The error with exit code 1 (LSB) if a pid file is left of an instance that was killed, else the given error."""
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


@click.command(params=[NO_COLOUR])
@click.argument("name", required=False)
@instance_options
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
    from appsrv.commands.top_table import Reading

    one, client = find(name, port, pid_file)

    def read() -> Reading:
        return Reading(client.status(), client.requests())

    if as_json or count or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _print_top(read, sort[0], interval, count, as_json=as_json)
    else:
        _watch_top(read, sort[0], interval, one, client)
    return 0


def _print_top(read: Callable[[], Reading], sort: str, interval: float, count: int | None, *, as_json: bool) -> None:
    from appsrv.commands import top_table as shows

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
    from appsrv.commands.top_screen import Actions, FullScreen, Top

    def restart(group: str) -> str:
        outcome = next((one for one in client.restart(group) if one.get("name") == group), {})
        if outcome.get("ok"):
            return f"{group} restarted"
        return f"{group} was not restarted: {outcome.get('message') or 'it has gone'}"

    def detach(pid: int) -> str:
        outcome = client.detach(pid)
        return f"worker {pid} detached" if outcome.get("detached") else str(outcome.get("message"))

    actions = Actions(read, lambda pid: _stacks_as_text(one, pid).splitlines(), detach, restart)
    colour = wants_colour(sources.environment(), True)
    Top(FullScreen(sys.stdin.fileno(), sys.stdout.fileno()), actions, sort=sort, interval=interval, colour=colour).run()


# -- logs --------------------------------------------------------------------------------------------------


@click.command(params=[NO_COLOUR])
@click.argument("name", required=False)
@instance_options
@click.option("-f", "--follow", is_flag=True, help="Show each new line, too, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="NUMBER", help="At most so many of the last [all].")
@click.option("--request", metavar="ID", help="Those of one request: its id is in error pages and the access log.")
@click.option("--worker", type=click.IntRange(min=1), metavar="PID", help="Those of one worker, or about it.")
@click.option("--app", metavar="PATH", help="Of several applications, the one of this path or name: its own log.")
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

    from appsrv.logs import reader

    try:
        wanted = reader.Criteria(request, worker, since and reader.since(since, datetime.now()))
    except ValueError:
        raise click.UsageError(f"--since takes 10m, 2h, 3d, 2026-01-31 or '2026-01-31 12:00', not {since}") from None
    path = log_file or _log_of(name, port, pid_file, app)
    found = reader.follow(path, wanted, lines) if follow else reader.last(path, wanted, lines)
    colour = wants_colour(sources.environment(), sys.stdout.isatty())
    for line in found:
        for shown in [json.dumps(line.to_json())] if as_json else line.raw.split("\n"):
            click.echo(shown if as_json else reports.log_line(shown, line.level, colour=colour))
        sys.stdout.flush()
    return 0


def _log_of(name: str | None, port: int | None, pid_file: Path | None, app: str | None) -> Path:
    living, here = running()
    try:
        one = run_directory.select(living, here, name=name, port=port, pid_file=pid_file)
        log_file = one.info.log_file if app is None else _log_of_group(client_of(one), app, here)
    except NotRunning as error:
        raise as_failure(NotRunning(f"{error} To read a file: appsrv logs --log-file PATH")) from None
    if log_file is None:
        raise AdminError("this instance keeps no log file")
    return Path(log_file)


def _log_of_group(client: AdminClient, app: str, here: Path) -> str | None:
    found: str | None = select_application(client.status().get("app_groups", []), app, here).get("log_file")
    return found


# -- trace -------------------------------------------------------------------------------------------------


@click.command(params=[NO_COLOUR])
@click.argument("pid", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="The threads and their frames, as JSON.")
def trace(pid: int, as_json: bool) -> int:
    """Show what all threads of a process are doing, without disturbing it.

    PID is that of a worker (see `appsrv status`), or of any other process of a running appsrv. It answers as well
    when it is stuck, in C code or in a system call.
    """
    one = instance_of(pid)
    click.echo(json.dumps(_stacks(one, pid), indent=2) if as_json else _stacks_as_text(one, pid))
    return 0


def _stacks(instance: Instance, pid: int) -> dict[str, Any]:
    import dataclasses

    from appsrv.system import process_tree
    from appsrv.system import stack_dump as stacks

    threads = [dataclasses.asdict(thread) for thread in stacks.ask(instance.directory, pid)]
    return {"pid": pid, "title": process_tree.title(pid), "instance": instance.info.name, "threads": threads}


def _stacks_as_text(instance: Instance, pid: int) -> str:
    from appsrv.system import process_tree
    from appsrv.system import stack_dump as stacks

    threads = stacks.ask(instance.directory, pid)
    return "\n".join([f"{printable(process_tree.title(pid))} (PID {pid})", *stacks.as_text(threads, linecache.getline)])
