"""Who may connect to a unix socket."""

from __future__ import annotations

import grp
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.errors import ListenError, SettingsError
from appsrv.net import listening_sockets
from appsrv.settings import parsers
from appsrv.settings.table import Settings
from appsrv.watchdog.socket_access import SocketAccess, shared_group


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that others may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        (Settings(), 0o666), (Settings(socket_group=str(os.getegid())), 0o660), (Settings(socket_mode="600"), 0o600),
        (Settings(socket_mode="666", socket_group=str(os.getegid())), 0o666),
    ],
)
def test_the_mode_whatever_the_umask(place: Path, settings: Settings, mode: int) -> None:
    path = str(place / "web.sock")
    before = os.umask(0o027)
    try:
        sock = listening_sockets.bind_unix(path)
        assert os.stat(path).st_mode & 0o777 == 0o600, "closed until it is decided"
        _, sockets = listening_sockets.listen_unix(path, sock, SocketAccess.of(settings).apply)
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o777 == mode
    sockets[0].close()


def test_what_was_put_in_its_place_is_left_alone(place: Path) -> None:
    path = str(place / "web.sock")
    sock = listening_sockets.bind_unix(path)
    os.unlink(path)
    (place / "web.sock").write_text("other")
    with pytest.raises(ListenError, match="replaced by another file"):
        SocketAccess().apply(path)
    assert os.stat(path).st_mode & 0o777 != 0o666
    sock.close()


def test_a_closed_directory_is_named_unless_a_mode_was_chosen(place: Path) -> None:
    path = str(place / "inner/web.sock")
    (place / "inner").mkdir(mode=0o750)
    own = os.getegid()
    assert f"the directory {place / 'inner'} is closed to them (mode 0750)" in (SocketAccess().notice(path) or "")
    assert SocketAccess(0o600, chosen=True).notice(path) is None
    assert SocketAccess(0o660, gid=own).notice(path) is None, "its group may enter"
    assert SocketAccess().notice(path, own) is None, "as systemd's Group=www-data with RuntimeDirectoryMode=0750"
    assert "socket_group cannot connect" in (SocketAccess(0o660, gid=own + 1, chosen=True).notice(path) or "")
    (place / "inner").chmod(0o711)
    assert SocketAccess().notice(path) is None


def test_the_group_of_a_user_alone_is_not_shared() -> None:
    root, other = grp.getgrgid(0), grp.getgrall()[-1]
    assert shared_group(0, other.gr_gid) == other.gr_gid
    assert (shared_group(0, 0) is None) is (root.gr_name == "root" and not {*root.gr_mem} - {"root"})


def test_names_that_do_not_exist() -> None:
    with pytest.raises(SettingsError, match="socket_group: there is no group nosuch"):
        SocketAccess.of(Settings(socket_group="nosuch"))
    with pytest.raises(SettingsError, match="socket_user: there is no user nosuch"):
        SocketAccess.of(Settings(socket_user="nosuch"))


@pytest.mark.parametrize("value", [660, 0o660, "", "8", "999", "1777", "rw", "u=rw"])
def test_what_is_no_mode(value: object) -> None:
    with pytest.raises(ValueError, match="octal"):
        parsers.file_mode(value)


def test_modes() -> None:
    assert [parsers.file_mode(word) for word in ("660", "0660", "600")] == ["660", "660", "600"]
