"""Whom a process becomes."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from appsrv.errors import OperatorError, SettingsError
from appsrv.system.users import acting_as, become, check_readable, identity_of

ME = pwd.getpwuid(os.geteuid())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_nobody_named() -> None:
    assert identity_of(None, None) is None


def test_a_group_needs_a_user() -> None:
    with pytest.raises(SettingsError, match="--user"):
        identity_of(None, "wheel")


@pytest.mark.parametrize(("user", "group"), [("no-such-user", None), ("4294967295", None), (ME.pw_name, "no-group")])
def test_unknown_names(user: str, group: str | None) -> None:
    with pytest.raises(SettingsError, match="there is no"):
        identity_of(user, group)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become anybody")
def test_only_root_becomes_another_one() -> None:
    assert identity_of(ME.pw_name, None) is None
    with pytest.raises(SettingsError, match="only root"):
        identity_of("root", None)


@needs_root
def test_names_and_numbers_are_the_same() -> None:
    user = pwd.getpwnam("nobody")
    by_name = identity_of("nobody", grp.getgrgid(user.pw_gid).gr_name)
    assert by_name == identity_of(str(user.pw_uid), str(user.pw_gid)) == identity_of("nobody", None)
    assert by_name is not None
    assert (by_name.uid, by_name.gid, by_name.variables["USER"]) == (user.pw_uid, user.pw_gid, "nobody")
    assert by_name.gid in by_name.groups


@needs_root
def test_a_number_without_an_entry_needs_a_group() -> None:
    with pytest.raises(SettingsError, match=r"12345678 has no entry in the user database.*--group"):
        identity_of("12345678", None)
    nameless = identity_of("12345678", "87654321")
    assert nameless is not None
    assert (nameless.uid, nameless.gid, nameless.groups, nameless.home) == (12345678, 87654321, (87654321,), "/")


@needs_root
def test_what_is_made_in_between_is_theirs() -> None:
    nobody = identity_of("nobody", None)
    assert nobody is not None
    before = os.getgroups()
    # Not pytest's own directory, which is closed to other users.
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.chown(place, nobody.uid, nobody.gid)
        with acting_as(nobody):
            (place / "theirs").touch()
        (place / "ours").touch()
        assert ((place / "theirs").stat().st_uid, (place / "ours").stat().st_uid) == (nobody.uid, 0)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, ME.pw_gid, before)


@needs_root
def test_reach(tmp_path: Path) -> None:
    nobody = identity_of("nobody", None)
    assert nobody is not None
    tmp_path.chmod(0o700)
    with pytest.raises(OperatorError, match="nobody cannot read"):
        check_readable(nobody, str(tmp_path))


@pytest.mark.process
@needs_root
def test_becoming_is_for_good() -> None:
    nobody = identity_of("nobody", None)
    assert nobody is not None
    pid = os.fork()
    if not pid:
        code = 1
        try:
            become(nobody)
            code = 2
            os.setuid(0)
            code = 3
        except PermissionError:
            is_nobody = (os.getuid(), os.geteuid(), os.getgroups()) == (nobody.uid, nobody.uid, list(nobody.groups))
            code = 0 if is_nobody else 4
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
