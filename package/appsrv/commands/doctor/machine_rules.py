"""The rules about the machine: users, permissions, places, limits of the kernel. Pure: facts in, findings out."""

from __future__ import annotations

import math
from collections.abc import Iterator

from appsrv.commands.doctor.facts import ENTER, STATIC_ROOT, WRITE, Finding, Machine, Way, WritablePlace
from appsrv.http.connection_limits import MIN_RESERVED_DESCRIPTORS, connection_limit
from appsrv.system.words import in_line

FEW_DESCRIPTORS = 1024
"""The usual soft limit of a Linux system. A hard limit below it is rare, and a limit that somebody has set."""


def of_ways(machine: Machine) -> Iterator[Finding]:
    """What the web server's user cannot reach."""
    for way in machine.ways:
        yield from _of_way(machine, way)


def of_system(machine: Machine) -> Iterator[Finding]:
    """Places that cannot be written to, the user, and limits of the system."""
    yield from _of_places(machine)
    yield from _of_user(machine)
    yield from _of_descriptors(machine)
    yield from _of_backlog(machine)


def _of_way(machine: Machine, way: Way) -> Iterator[Finding]:
    if way.missing:
        yield Finding(
            "missing-directory", f"{way.what} cannot be there: the directory {way.missing} does not exist",
            f"{way.setting} = {way.path}",
            "manage.py collectstatic" if way.setting == STATIC_ROOT else f"mkdir -p {way.missing}",
        )
        return
    web = machine.web
    if web is None:
        return
    closed = next((directory for directory in way.directories if not directory.allow(web, ENTER)), None)
    if closed is not None:
        yield Finding(
            "web-server-access", f"the web server's user {web.name} cannot reach {way.what}",
            f"the directory {closed.shown}",
            f"chmod o+x {closed.path}, or set {way.setting} to a path in a directory that is open to it",
        )
    elif way.file is not None and not way.file.allow(web, WRITE):
        yield Finding(
            "web-server-access", f"the web server's user {web.name} may not connect to {way.what}", way.file.shown,
            f"socket_group = \"{web.name}\", or socket_mode = \"666\"",
        )


def _of_places(machine: Machine) -> Iterator[Finding]:
    if machine.run_problem:
        yield Finding(
            "run-directory", f"there is no place for the run directory: {machine.run_problem}", "XDG_RUNTIME_DIR",
            "set XDG_RUNTIME_DIR to a directory that this user may write to; in a container, mount a tmpfs at /tmp",
        )
    for place in machine.places:
        if place.problem:
            yield Finding(
                "read-only" if place.read_only else "not-writable", _of_place(place), place.directory, _remedy(place),
            )


def _of_place(place: WritablePlace) -> str:
    return f"{place.what} cannot be written: {place.problem}; {place.effect}"


def _remedy(place: WritablePlace) -> str:
    if place.setting == "data_buffer_dir":
        return "data_buffer_dir = a directory that can be written to, or mount a tmpfs at /tmp"
    name = place.setting.replace("_", "-")
    return f"--{name} PATH in a directory that can be written to, or --{name} none"


def _of_user(machine: Machine) -> Iterator[Finding]:
    nameless = {account.uid for account in machine.app_users.values() if not account.known}
    for uid in sorted(nameless):
        yield Finding(
            "no-passwd-entry", f"the user id {uid} of the application has no entry in the user database: "
            "getpass.getuser(), os.path.expanduser() and some database drivers fail",
            "/etc/passwd", f"useradd --uid {uid} app (in the image), or set HOME and USER",
        )
    for name, account in machine.app_users.items():
        if account.uid == 0:
            yield Finding(
                "root", "the application runs as root: a flaw in it gives away the whole machine", in_line(name),
                "--user NAME (started as root), or User=NAME in the systemd unit",
            )


def _of_descriptors(machine: Machine) -> Iterator[Finding]:
    wanted, each = machine.settings.max_connections, machine.descriptors_per_connection
    possible = connection_limit(wanted, machine.descriptors, each)
    too_few = possible < wanted if wanted > 0 else machine.descriptors < FEW_DESCRIPTORS
    if too_few:
        needed = descriptors_for(wanted if wanted > 0 else FEW_DESCRIPTORS, each)
        asked = f", not max_connections = {wanted}" if wanted > 0 else ""
        yield Finding(
            "descriptors", f"there can be {possible} connections at a time{asked}: the process may open "
            f"{machine.descriptors} descriptors", f"ulimit -Hn of {machine.limits_of}",
            f"ulimit -n {needed} before the start, or LimitNOFILE={needed} in the systemd unit",
        )


def descriptors_for(connections: int, each: int) -> int:
    """The least limit of descriptors that allows so many connections; the inverse of `connection_limit`."""
    needed = connections * each
    return max(needed + MIN_RESERVED_DESCRIPTORS, math.ceil(needed * 8 / 7))


def _of_backlog(machine: Machine) -> Iterator[Finding]:
    if machine.somaxconn is not None and machine.somaxconn < machine.backlog:
        yield Finding(
            "somaxconn", f"the kernel keeps {machine.somaxconn} connections that wait to be accepted; appsrv asks for "
            f"{machine.backlog}. In a burst, clients time out or get 502 from the proxy",
            f"net.core.somaxconn = {machine.somaxconn}",
            "sysctl -w net.core.somaxconn=4096 (and in /etc/sysctl.d/; docker run --sysctl net.core.somaxconn=4096)",
        )
