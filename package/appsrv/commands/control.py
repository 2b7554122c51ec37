"""The commands that act on a running instance: `stop`, `restart-app`, `reopen-logs` and `detach-process`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appsrv.commands import reports
from appsrv.commands.common import (
    as_failure,
    client_of,
    find,
    instance_of,
    instance_options,
    matches,
    print_error,
    running,
    shown_directory,
)
from appsrv.errors import AdminError, NotRunning
from appsrv.instance import run_directory
from appsrv.instance.run_directory import Instance
from appsrv.settings import sources
from appsrv.system.words import listed, printable, wants_colour

if TYPE_CHECKING:
    from appsrv.instance.admin_client import AdminClient

# `stop` waits for the time that the instance's settings allow for a stop, plus this margin, and at least the minimum.
STOP_MARGIN_SECONDS = 10.0
MIN_STOP_WAIT_SECONDS = 60.0
POLL_INTERVAL_SECONDS = 0.02

# -- stop --------------------------------------------------------------------------------------------------


@click.command(short_help="Stop a running appsrv gracefully.")
@click.argument("name", required=False)
@instance_options
@click.option("-i", "--ignore-pid-not-found", is_flag=True, help="Exit with 0 if there is nothing to stop.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS",
    help="How long to wait [60, or longer where the settings let a stop take longer].",
)
def stop(
    name: str | None, port: int | None, pid_file: Path | None, ignore_pid_not_found: bool, timeout: float | None
) -> int:
    """Stop a running appsrv: requests that are being served are finished first.

    NAME is the (beginning of the) name of an instance; without it, the one of the current directory.
    """
    try:
        one, client = find(name, port, pid_file)
    except NotRunning as error:
        if ignore_pid_not_found:
            return 0
        raise as_failure(error) from None
    click.echo("Stopping web server...", nl=False)
    _request_stop(one, client)
    longest = max(MIN_STOP_WAIT_SECONDS, one.info.stops_within + STOP_MARGIN_SECONDS)
    _wait_until_gone(one, longest if timeout is None else timeout)
    click.echo(" done")
    return 0


def _request_stop(one: Instance, client: AdminClient) -> None:
    """Request a stop by the admin socket; if the server does not answer, send the watchdog SIGTERM."""
    try:
        client.stop()
    except (AdminError, NotRunning):
        if one.is_alive():
            one.send_signal(signal.SIGTERM)


def _wait_until_gone(one: Instance, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while one.is_alive():
        if time.monotonic() > deadline:
            click.echo()
            raise AdminError(f"{one.info.root} has not stopped within {timeout:g} s; it runs on PID {one.info.pid}")
        time.sleep(POLL_INTERVAL_SECONDS)


# -- restart-app -------------------------------------------------------------------------------------------


@click.command("restart-app")
@click.argument("path_prefix", required=False, metavar="[PATH_PREFIX]")
@click.option("--instance", "name", metavar="NAME", help="In the instance of that name only.")
@instance_options
@click.option("--ignore-app-not-running", is_flag=True, help="Exit with 0 if there is no such application.")
@click.option(
    "--parallel", type=click.IntRange(min=1), metavar="NUMBER",
    help="Workers to replace at a time [the setting restart_parallel].",
)
@click.option(
    "--stop-first", is_flag=True,
    help="End the running processes before the new code is loaded; requests wait meanwhile. For code that needs a "
    "resource that only one process can have, such as a port or a lock.",
)
def restart_app(
    path_prefix: str | None,
    name: str | None,
    port: int | None,
    pid_file: Path | None,
    ignore_app_not_running: bool,
    parallel: int | None,
    stop_first: bool,
) -> int:
    """Restart applications without losing a request.

    Those at or below PATH_PREFIX: a path, . for the current directory, / for all; or the one of that name. Without it,
    a menu is shown.
    Waits for the outcome: new code that does not start leaves the previous one serving, the exit code is 1. With
    --stop-first nothing serves then: requests are answered 503 until a later try succeeds.
    """
    clients = [(one, client_of(one)) for one in _candidates(name, port, pid_file)]
    groups = [(client, group) for one, client in clients for group in _groups(one, client)]
    if path_prefix is None:
        chosen = _choose_groups(groups)
    else:
        here = shown_directory(sources.environment())
        chosen = [(client, group) for client, group in groups if matches(group, path_prefix, here)]
    if not chosen and path_prefix is not None and not ignore_app_not_running:
        hint = _changed_link_hint(path_prefix, [group for _, group in groups])
        raise AdminError(f"There are no applications running whose paths begin with '{path_prefix}'.{hint}")
    return max([_restart(client, group, parallel, stop_first=stop_first) for client, group in chosen], default=0)


def _changed_link_hint(path: str, groups: Sequence[Mapping[str, Any]]) -> str:
    """A hint for a path that is a symbolic link whose former target is being served; empty in every other case."""
    link = os.path.normpath(shown_directory(sources.environment()) / path)
    target = os.path.realpath(link)
    if link == target:
        return ""
    beside = [root for group in groups if os.path.dirname(root := group.get("root") or "") == os.path.dirname(target)]
    if not beside:
        return ""
    return (
        f" {link} stands for {target} now; {listed(beside)}, which is served, does not follow the link: stop it, "
        f"and start it by the link, appsrv start {link}"
    )


def _candidates(name: str | None, port: int | None, pid_file: Path | None) -> list[Instance]:
    """The instances to search: the selected one, or else all, because the path alone identifies an application."""
    living, here = running()
    if name is None and port is None and pid_file is None:
        return living
    try:
        return [run_directory.select(living, here, name=name, port=port, pid_file=pid_file)]
    except NotRunning as error:
        raise as_failure(error) from None


def _groups(one: Instance, client: AdminClient) -> list[dict[str, Any]]:
    try:
        groups: list[dict[str, Any]] = client.status().get("app_groups", [])
    except NotRunning:  # The instance has ended since it was listed.
        return []
    except AdminError as error:
        # An instance that ends or hangs must not prevent the restart of an application in another instance.
        print_error(f"{one.info.name} is passed over: {error}", error.exit_code)
        return []
    return groups


_Choice = tuple["AdminClient", dict[str, Any]]


def _choose_groups(groups: Sequence[_Choice]) -> list[_Choice]:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("name the path of an application, or / for all: there is no terminal to ask on")
    if not groups:
        raise AdminError("There are no applications running.")
    from appsrv.commands import menu

    colour = wants_colour(sources.environment(), True)
    click.echo("Please select the application to restart.")
    click.echo(_grey("Tip: re-run this command with --help to learn how to automate it.", colour))
    click.echo(_grey("If the menu doesn't display correctly, press '!'", colour) + "\n")
    sys.stdout.flush()
    titles = [reports.group_title(group) for _, group in groups]
    chosen = menu.choose(titles, sys.stdin.fileno(), sys.stdout.fileno())
    click.echo()
    return [] if chosen is None else [groups[chosen]]


def _grey(line: str, colour: bool) -> str:
    return click.style(line, fg="bright_black") if colour else line


def _restart(client: AdminClient, group: Mapping[str, Any], parallel: int | None, *, stop_first: bool) -> int:
    title = reports.group_title(group)
    click.echo(f"Restarting {title}")
    sys.stdout.flush()
    restarted = client.restart(group["name"], parallel, stop_first=stop_first)
    outcomes = [one for one in restarted if one.get("name") == group["name"]]
    if not outcomes:
        return print_error(f"{title} was removed before it was restarted", 1)
    if outcomes[0].get("ok"):
        return 0
    return _restart_failed(title, outcomes[0], serves=bool(group.get("workers")))


def _restart_failed(title: str, outcome: Mapping[str, Any], *, serves: bool) -> int:
    if outcome.get("traceback"):
        click.echo(printable(outcome["traceback"]).rstrip("\n"), err=True)
    reason = printable(outcome.get("message") or "no reason is known")
    meanwhile = "its previous code keeps serving" if serves else "its requests are answered 503"
    if outcome.get("stopped"):
        meanwhile = "its previous code was stopped, its requests are answered 503, and it is tried again"
    return print_error(f"{title} was not restarted, {meanwhile}: {reason}", 1)


# -- reopen-logs -------------------------------------------------------------------------------------------


@click.command("reopen-logs", short_help="Open the log files again after rotation.")
@click.argument("name", required=False)
@instance_options
def reopen_logs(name: str | None, port: int | None, pid_file: Path | None) -> int:
    """Open the server log anew, after it was renamed by log rotation."""
    try:
        find(name, port, pid_file)[1].reopen_logs()
    except NotRunning as error:
        raise as_failure(error) from None
    click.echo("All done")
    return 0


# -- detach-process ----------------------------------------------------------------------------------------


@click.command("detach-process")
@click.argument("pid", type=click.IntRange(min=1))
def detach_process(pid: int) -> int:
    """Let a worker finish what it is doing and leave.

    PID is that of the worker (see `appsrv status`). Where a successor is needed, it is ready first. Waits until the
    worker has left.
    """
    outcome = client_of(instance_of(pid)).detach(pid)
    if not outcome.get("detached"):
        raise AdminError(outcome.get("message") or f"worker {pid} has not left")
    click.echo(f"Process {pid} detached.")
    return 0
