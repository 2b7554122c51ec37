"""Which places an instance may use, by what they are and whose."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from appsrv.errors import RunDirectoryError
from appsrv.system import directories


def test_the_first_base_is_the_runtime_directory_of_this_user(tmp_path: Path) -> None:
    runtime, home = tmp_path / "runtime", tmp_path / "home"
    runtime.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(home), "TMPDIR": str(tmp_path)}
    bases = directories.bases(environ)
    assert bases[0] == runtime / "appsrv"
    state = bases.index(home / ".local/state/appsrv/run")
    assert bases[state + 1] == tmp_path / f"appsrv-{os.geteuid()}"
    assert runtime / "appsrv" not in directories.bases({**environ, "XDG_RUNTIME_DIR": "relative"})
    assert runtime / "none" / "appsrv" not in directories.bases({"XDG_RUNTIME_DIR": str(runtime / "none")})


def test_a_place_that_every_user_can_change_is_the_last_choice(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    runtime.chmod(0o777)
    environ = {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path)}
    assert directories.bases(environ)[-1] == runtime / "appsrv"
    runtime.chmod(0o1777)
    assert directories.bases(environ)[0] == runtime / "appsrv"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_the_runtime_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    assert tmp_path / "appsrv" not in directories.bases({"XDG_RUNTIME_DIR": str(tmp_path)})
    os.mkdir(tmp_path / "appsrv")
    os.chown(tmp_path / "appsrv", 65534, 65534)
    with pytest.raises(RunDirectoryError, match="is not a directory of this user"):
        directories.private_directory(tmp_path / "appsrv")


def test_a_private_directory_is_closed_again_and_follows_no_link(tmp_path: Path) -> None:
    place = tmp_path / "appsrv-1"
    place.mkdir(0o777)
    assert stat.S_IMODE(directories.private_directory(place).stat().st_mode) == 0o700
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(RunDirectoryError, match="is not a directory of this user"):
        directories.private_directory(place)


def test_state_directory(tmp_path: Path) -> None:
    assert directories.state_directory({"XDG_STATE_HOME": "/var/s"}) == Path("/var/s/appsrv")
    assert directories.state_directory({"HOME": "/home/a"}) == Path("/home/a/.local/state/appsrv")
    assert directories.writable_state({"XDG_STATE_HOME": str(tmp_path)}, "n") == tmp_path / "appsrv" / "n"
    (tmp_path / "file").touch()
    assert directories.writable_state({"XDG_STATE_HOME": str(tmp_path / "file")}) is None


def test_a_user_without_an_entry_has_no_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for environ in ({}, {"HOME": ""}, {"HOME": "relative", "XDG_STATE_HOME": "relative"}):
        assert directories.state_directory(environ) is None
        assert directories.writable_state(environ) is None
        assert directories.bases(environ), "there are temporary directories"
