"""Shared by all commands: the options that select an instance, the flags of the settings, the printing of errors.

It knows click and the terminal. The commands themselves are in other modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from appsrv.apps.app_spec import is_below
from appsrv.errors import AdminError, NotRunning, OperatorError
from appsrv.instance import run_directory
from appsrv.instance.run_directory import Instance
from appsrv.settings import sources
from appsrv.settings.table import ROWS
from appsrv.system import directories
from appsrv.system.words import in_line

if TYPE_CHECKING:
    from appsrv.instance.admin_client import AdminClient

Command = TypeVar("Command", bound=Callable[..., Any])


def print_error(message: str, exit_code: int) -> int:
    """Print the line of an error on stderr; returns `exit_code`."""
    click.echo(f"appsrv: error: {message}", err=True)
    return exit_code


def print_variable_notices(environ: Mapping[str, str]) -> None:
    """Print the notices about variables on stderr, for commands whose terminal shows no server log."""
    print_warnings(sources.variable_notices(environ))


def print_warnings(warnings: Iterable[str]) -> None:
    """Print the line of each warning on stderr."""
    for warning in warnings:
        click.echo(f"appsrv: warning: {in_line(warning)}", err=True)


def _no_colour(_: click.Context, __: click.Parameter, chosen: bool) -> None:
    """Set the variable NO_COLOR, so that all code that uses colours, also in child processes, sees the choice."""
    if chosen:
        os.environ["NO_COLOR"] = "1"


NO_COLOUR = click.Option(
    ["--no-color"], is_flag=True, expose_value=False, callback=_no_colour, help="No colours; like NO_COLOR=1."
)


def setting_options() -> Iterable[click.Option]:
    """An option of click for each setting that has a flag."""
    for row in ROWS:
        names = [name for name in (row.flag, row.long_flag) if name]
        described = f"{row.help.replace('`', '')} [{row.default_text.replace('`', '')}]"
        if row.key_only:
            continue
        if row.is_boolean:
            names[-1] += f"/--no-{row.long_flag[2:]}"
            yield click.Option(names, default=None, help=described)
        else:
            yield click.Option(names, metavar=row.metavar, default=None, multiple=row.several, help=described)


def working_directory(environ: Mapping[str, str]) -> Path:
    """The current directory as the shell shows it, with its symbolic links. Raises `OperatorError` if it was removed.

    `/srv/shop/current` stays a link, because the next deployment changes its target.
    """
    logical = environ.get("PWD", "")
    try:
        # PWD may be that of another user (su -m), or out of date. Then it does not exist or is another directory.
        if os.path.isabs(logical) and os.path.exists(logical) and os.path.samefile(logical, os.getcwd()):
            return Path(os.path.normpath(logical))
        return Path.cwd()
    except FileNotFoundError:
        raise OperatorError("the current directory has been removed: change to another one") from None


def directory_of_changed_link(environ: Mapping[str, str]) -> Path | None:
    """The symbolic link through which the shell entered this directory, if a deployment has changed its target since.

    PWD is then a link such as `/srv/shop/current`, and this directory, which may have been removed, has the same parent
    as the link's present target. None in every other case.
    """
    logical = environ.get("PWD", "")
    if not (os.path.isabs(logical) and os.path.islink(logical) and os.path.isdir(logical)):
        return None
    try:
        physical = os.getcwd()
    except FileNotFoundError:
        try:
            physical = os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
        except OSError:
            return None
    there = os.path.realpath(logical)
    beside = physical != there and os.path.dirname(physical) == os.path.dirname(there)
    return Path(os.path.normpath(logical)) if beside else None


def shown_directory(environ: Mapping[str, str]) -> Path:
    """The directory of a command without an argument for it: the one that the shell shows as current."""
    return directory_of_changed_link(environ) or working_directory(environ)


# -- which instance ----------------------------------------------------------------------------------------


def instance_options(command: Command) -> Command:
    """Add --port and --pid-file, which select an instance beside its NAME, to a command."""
    for add in (
        click.option("--pid-file", type=click.Path(path_type=Path), metavar="PATH", help="By its pid file."),
        click.option("-p", "--port", type=int, metavar="NUMBER", help="The instance on that port."),
    ):
        command = add(command)
    return command


def find(name: str | None, port: int | None, pid_file: Path | None) -> tuple[Instance, AdminClient]:
    """The selected instance and a client of its admin socket. Raises `NotRunning` and `SeveralInstances`."""
    living, here = running()
    one = run_directory.select(living, here, name=name, port=port, pid_file=pid_file)
    return one, client_of(one)


def running() -> tuple[list[Instance], Path]:
    """All running instances of this user, and the current directory."""
    environ = sources.environment()
    return run_directory.list_instances(directories.bases(environ)), shown_directory(environ)


def client_of(one: Instance) -> AdminClient:
    """A client of the instance's admin socket."""
    from appsrv.instance.admin_client import AdminClient

    return AdminClient(one.admin_socket, one.is_alive)


def as_failure(error: NotRunning) -> OperatorError:
    """The error for commands other than `status`: exit code 3 (not running) is only that of `status` (LSB)."""
    return AdminError(str(error))


def matches(group: Mapping[str, Any], given: str, here: Path) -> bool:
    """Whether an application has the name `given`, or is at or below the path `given`."""
    prefix = os.path.normpath(here / given)
    return group.get("name") == given or any(is_below(group.get(place) or "", prefix) for place in ("name", "root"))


def select_application(groups: Sequence[dict[str, Any]], given: str, here: Path) -> dict[str, Any]:
    """The application with the name `given`, else the one at this path, else the only one below it.

    Raises `AdminError` unless exactly one application matches.
    """
    prefix = os.path.normpath(here / given)
    named = [group for group in groups if group.get("name") == given]
    at_path = [group for group in groups if prefix in (group.get("name"), group.get("root"))]
    below = [group for group in groups if matches(group, given, here)]
    found = next((some[0] for some in (named, at_path, below) if len(some) == 1), None)
    if found is None:
        names = ", ".join(in_line(group.get("name")) for group in below or groups)
        raise AdminError(f"{len(below) or 'none'} of the applications are at or below {prefix}: name one of {names}")
    return found


def instance_of(pid: int) -> Instance:
    """The instance to which a process belongs. Raises `AdminError` if it belongs to none."""
    from appsrv.system import process_tree

    for one in running()[0]:
        if process_tree.is_below(pid, one.info.pid):
            return one
    raise AdminError(f"process {pid} belongs to no running appsrv of yours: appsrv status shows the PIDs")
