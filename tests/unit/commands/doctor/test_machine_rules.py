"""The rules about the machine: from its facts to findings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appsrv.commands.doctor import machine_rules
from appsrv.commands.doctor.facts import ENTER, WRITE, Account, Finding, Machine, Permissions, Way, WritablePlace
from appsrv.http.connection_limits import connection_limit
from appsrv.settings.table import Settings

OWNER = Account("shop", 1000, frozenset({1000}))
WEB = Account("www-data", 33, frozenset({33, 50}))
MACHINE = Machine(settings=Settings(), account=OWNER, web=WEB, somaxconn=4096, backlog=2048)
ROOT = Permissions("/", 0o755, 0, 0)
PLACE = WritablePlace("the server log", "/srv/shop/log", "log_file", "the instance cannot start", True, True, False)


def directory(path: str, mode: int, gid: int = 1000, *, acl: bool = False) -> Permissions:
    return Permissions(path, mode, 1000, gid, "shop:shop", acl)


def checks(machine: Machine) -> list[str]:
    return [finding.check for finding in (*machine_rules.of_ways(machine), *machine_rules.of_system(machine))]


def only(machine: Machine) -> Finding:
    (finding,) = (*machine_rules.of_ways(machine), *machine_rules.of_system(machine))
    return finding


def test_nothing_to_find() -> None:
    socket = Permissions("/srv/s", 0o666, 1000, 1000)
    way = Way("the socket", "/srv/s", "socket", [ROOT, directory("/srv", 0o755)], socket)
    assert checks(replace(MACHINE, ways=[way], places=[PLACE])) == []


@pytest.mark.parametrize(
    ("mode", "gid", "acl", "bits", "allowed"),
    [
        (0o711, 1000, False, ENTER, True),
        (0o750, 1000, False, ENTER, False),
        (0o750, 50, False, ENTER, True),
        # The class of the group decides for its members, also where others may more (path_resolution(7)).
        (0o705, 50, False, ENTER, False),
        # An access control list may name the user; its mask is in the bits of the group.
        (0o750, 1000, True, ENTER, True),
        (0o700, 1000, True, ENTER, False),
        (0o666, 1000, False, WRITE, True),
        (0o664, 1000, False, WRITE, False),
    ],
)
def test_what_permissions_allow(mode: int, gid: int, acl: bool, bits: int, allowed: bool) -> None:
    assert directory("/srv", mode, gid, acl=acl).allow(WEB, bits) is allowed


def test_permissions_of_the_owner_and_of_root() -> None:
    assert not directory("/srv", 0o077).allow(OWNER, ENTER)
    assert directory("/srv", 0).allow(Account("root", 0, frozenset()), ENTER)


def test_a_directory_that_the_web_server_cannot_enter() -> None:
    steps = [ROOT, directory("/srv", 0o755), directory("/srv/shop", 0o700), directory("/srv/shop/run", 0o700)]
    socket = Permissions("/srv/shop/run/s", 0o660, 1000, 1000)
    finding = only(replace(MACHINE, ways=[Way("the socket", "/srv/shop/run/s", "socket", steps, socket)]))
    assert finding.check == "web-server-access"
    assert finding.where == "the directory /srv/shop (mode 0700, shop:shop)"
    assert finding.remedy.startswith("chmod o+x /srv/shop,")
    assert checks(replace(MACHINE, web=None, ways=[Way("the socket", "/s", "socket", steps, socket)])) == []


def test_a_socket_that_the_web_server_cannot_write_to() -> None:
    way = Way("the socket", "/srv/s", "socket", [ROOT], Permissions("/srv/s", 0o660, 1000, 1000, "shop:shop"))
    finding = only(replace(MACHINE, ways=[way]))
    assert finding.where == "/srv/s (mode 0660, shop:shop)"
    assert 'socket_group = "www-data"' in finding.remedy


def test_a_directory_that_does_not_exist() -> None:
    finding = only(replace(MACHINE, ways=[Way("the socket", "/no/s", "socket", [ROOT], missing="/no")]))
    assert (finding.check, finding.remedy) == ("missing-directory", "mkdir -p /no")
    django = Way("the files of /static/", "/no", "STATIC_ROOT", [ROOT], missing="/no")
    assert only(replace(MACHINE, web=None, ways=[django])).remedy == "manage.py collectstatic"


@pytest.mark.parametrize(
    ("place", "check", "words"),
    [
        (replace(PLACE, writable=False), "not-writable", "may not write there"),
        (replace(PLACE, exists=False, writable=False), "not-writable", "no such directory"),
        # Root may write anywhere, but not on such a file system.
        (replace(PLACE, read_only=True), "read-only", "file system is read-only"),
    ],
)
def test_places_that_cannot_be_written_to(place: WritablePlace, check: str, words: str) -> None:
    finding = only(replace(MACHINE, places=[place]))
    assert (finding.check, finding.where) == (check, "/srv/shop/log")
    assert words in finding.what
    assert finding.remedy.startswith("--log-file PATH")


def test_no_place_for_the_run_directory_or_for_buffers() -> None:
    buffers = replace(PLACE, setting="data_buffer_dir", writable=False)
    machine = replace(MACHINE, run_problem="/tmp cannot be written to", places=[buffers])
    found = list(machine_rules.of_system(machine))
    assert [finding.check for finding in found] == ["run-directory", "not-writable"]
    assert "data_buffer_dir" in found[1].remedy


def test_users() -> None:
    nameless, root = Account("12345", 12345, frozenset(), known=False), Account("root", 0, frozenset())
    assert checks(replace(MACHINE, app_users={"/srv/shop": OWNER})) == []
    # Two applications of one user need one entry.
    assert checks(replace(MACHINE, app_users={"/srv/a": nameless, "/srv/b": nameless})) == ["no-passwd-entry"]
    found = list(machine_rules.of_system(replace(MACHINE, app_users={"/srv/a": root, "/srv/b": OWNER})))
    assert [(finding.check, finding.where) for finding in found] == [("root", "/srv/a")]


@pytest.mark.parametrize(
    ("max_connections", "descriptors", "each", "found"),
    [(-1, 1024, 1, False), (-1, 300, 1, True), (5000, 8192, 1, False), (5000, 8192, 3, True), (100, 300, 1, False)],
)
def test_descriptors(max_connections: int, descriptors: int, each: int, found: bool) -> None:
    settings = replace(Settings(), max_connections=max_connections)
    machine = replace(MACHINE, settings=settings, descriptors=descriptors, descriptors_per_connection=each)
    assert checks(machine) == (["descriptors"] if found else [])


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("connections", [1, 100, 447, 448, 449, 1000, 5000, 99_999])
def test_the_suggested_limit_of_descriptors_is_just_enough(connections: int, each: int) -> None:
    needed = machine_rules.descriptors_for(connections, each)
    assert connection_limit(connections, needed, each) == connections
    assert connection_limit(connections + 1, needed - 2, each) <= connections


def test_backlog() -> None:
    finding = only(replace(MACHINE, somaxconn=128))
    assert (finding.check, finding.where) == ("somaxconn", "net.core.somaxconn = 128")
    assert checks(replace(MACHINE, somaxconn=None)) == []
