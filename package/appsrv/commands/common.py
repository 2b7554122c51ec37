"""What all commands share: how an instance is named, what settings look like as flags, how errors are said.

Knows click and the terminal; no command stands here.
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


def say_error(message: str, exit_code: int) -> int:
    click.echo(f"appsrv: error: {message}", err=True)
    return exit_code


def say_variable_notices(environ: Mapping[str, str]) -> None:
    """Where no server log shows them on this terminal."""
    for notice in sources.variable_notices(environ):
        click.echo(f"appsrv: warning: {in_line(notice)}", err=True)


def _no_colour(_: click.Context, __: click.Parameter, chosen: bool) -> None:
    """As the variable: then everything that colours something, now or in a process started later, knows."""
    if chosen:
        os.environ["NO_COLOR"] = "1"


NO_COLOUR = click.Option(
    ["--no-color"], is_flag=True, expose_value=False, callback=_no_colour, help="No colours; like NO_COLOR=1."
)


def setting_options() -> Iterable[click.Option]:
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
    """As the shell shows it: `/srv/shop/current` stays a link, which the next deployment will turn."""
    logical = environ.get("PWD", "")
    try:
        # PWD may be another user's (su -m), or stale: then it is neither there nor this directory.
        if os.path.isabs(logical) and os.path.exists(logical) and os.path.samefile(logical, os.getcwd()):
            return Path(os.path.normpath(logical))
        return Path.cwd()
    except FileNotFoundError:
        raise OperatorError("the current directory has been removed: change to another one") from None


def turned_directory(environ: Mapping[str, str]) -> Path | None:
    """The link by which the shell came here, if a deployment has turned it since: PWD is `/srv/shop/current`, and this
    directory, gone or not, lies beside the one that it stands for now.
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


def place_meant(environ: Mapping[str, str]) -> Path:
    """The directory that a command is about which names none: where the shell shows it to be."""
    return turned_directory(environ) or working_directory(environ)


# -- which instance ----------------------------------------------------------------------------------------


def instance_options(command: Command) -> Command:
    """NAME, --port and --pid-file: how every command says which instance it means."""
    for add in (
        click.option("--pid-file", type=click.Path(path_type=Path), metavar="PATH", help="By its pid file."),
        click.option("-p", "--port", type=int, metavar="NUMBER", help="The instance on that port."),
    ):
        command = add(command)
    return command


def find(name: str | None, port: int | None, pid_file: Path | None) -> tuple[Instance, AdminClient]:
    """The instance that is meant, and the way to talk to it. Raises NotRunning and SeveralInstances."""
    living, here = running()
    one = run_directory.select(living, here, name=name, port=port, pid_file=pid_file)
    return one, client_of(one)


def running() -> tuple[list[Instance], Path]:
    environ = sources.environment()
    return run_directory.list_instances(directories.bases(environ)), place_meant(environ)


def client_of(one: Instance) -> AdminClient:
    from appsrv.instance.admin_client import AdminClient

    return AdminClient(one.admin_socket, one.is_alive)


def failed(error: NotRunning) -> OperatorError:
    """3 is what `status` says; a command that could not do its work has failed like any other."""
    return AdminError(str(error))


def is_meant(group: Mapping[str, Any], said: str, here: Path) -> bool:
    """Whether an application has the name `said`, or is at or below it as a path."""
    prefix = os.path.normpath(here / said)
    return group.get("name") == said or any(is_below(group.get(place) or "", prefix) for place in ("name", "root"))


def the_one_meant(groups: Sequence[dict[str, Any]], said: str, here: Path) -> dict[str, Any]:
    """Of applications the one of this name, else the one at this path, else the only one below it. AdminError."""
    prefix = os.path.normpath(here / said)
    named = [group for group in groups if group.get("name") == said]
    there = [group for group in groups if prefix in (group.get("name"), group.get("root"))]
    below = [group for group in groups if is_meant(group, said, here)]
    found = next((some[0] for some in (named, there, below) if len(some) == 1), None)
    if found is None:
        names = ", ".join(in_line(group.get("name")) for group in below or groups)
        raise AdminError(f"{len(below) or 'none'} of the applications are at or below {prefix}: name one of {names}")
    return found


def instance_of(pid: int) -> Instance:
    """The instance whose process it is."""
    from appsrv.system import process_tree

    for one in running()[0]:
        if process_tree.is_below(pid, one.info.pid):
            return one
    raise AdminError(f"process {pid} belongs to no running appsrv of yours: appsrv status shows the PIDs")
