"""Who may connect to a unix socket: its mode, owner and group, and the directories on the way to it.

Without a setting every user of the machine may, as with a port of 127.0.0.1: a web server runs as another user. The
umask plays no part. Listens on nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from appsrv.errors import ListenError, SettingsError
from appsrv.settings.table import Settings
from appsrv.system.users import group_id, user_id

EVERYBODY, GROUP = 0o666, 0o660


@dataclass(frozen=True)
class SocketAccess:
    """`uid` and `gid` are None where they stay as they are. `chosen`: the mode was given, so it is intended."""

    mode: int = EVERYBODY
    uid: int | None = None
    gid: int | None = None
    chosen: bool = False

    @classmethod
    def of(cls, settings: Settings) -> SocketAccess:
        """Raises SettingsError for users and groups that do not exist, and for what only root may give away."""
        uid = user_id(settings.socket_user, "socket_user") if settings.socket_user else None
        gid = group_id(settings.socket_group, "socket_group") if settings.socket_group else None
        if uid not in (None, os.geteuid()) and os.geteuid() != 0:
            raise SettingsError(f"socket_user: only root can name {settings.socket_user}; use socket_group")
        mode = int(settings.socket_mode, 8) if settings.socket_mode else (EVERYBODY if gid is None else GROUP)
        return cls(mode, uid, gid, settings.socket_mode is not None)

    def apply(self, path: str) -> None:
        """To the socket that is bound there and does not listen yet. Raises ListenError."""
        # By its descriptor: in a directory of another user the name may be that of something else by now.
        flags = getattr(os, "O_PATH", 0)
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC) if flags else -1
        place = f"/proc/self/fd/{fd}" if fd >= 0 and os.path.exists(f"/proc/self/fd/{fd}") else path
        try:
            if not stat.S_ISSOCK(os.stat(place).st_mode):
                raise ListenError(f"cannot listen on {path}: it was replaced by another file")
            if (self.uid, self.gid) != (None, None):
                os.chown(place, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)
            os.chmod(place, self.mode)
        except PermissionError as error:
            raise ListenError(
                f"cannot listen on {path}: socket_group: this user is not in that group: add it to the group, or start "
                "as root", error.errno
            ) from None
        finally:
            if fd >= 0:
                os.close(fd)

    def notice(self, path: str, shared_gid: int | None = None) -> str | None:
        """Why those who are to connect cannot, where that is hardly intended.

        `shared_gid`: a group of the server's that has other members, as systemd's `Group=www-data` gives it.
        """
        if self.gid is None and self.chosen:
            return None
        gid = self.gid if self.gid is not None else shared_gid
        for directory, found in _above(path):
            if not _may_pass(found, gid):
                who = "other users, such as a web server's," if self.gid is None else "socket_group"
                return (
                    f"{who} cannot connect to {path}: the directory {directory} is closed to them (mode "
                    f"{stat.S_IMODE(found.st_mode):04o}); open it or put the socket elsewhere"
                    + (", or set socket_mode = \"600\" if that is intended" if self.gid is None else "")
                )
        return None


def shared_group(uid: int, gid: int) -> int | None:
    """The group, unless it is the user's own: one that has its name, and no other members."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
    return None if group.gr_name == user and not {*group.gr_mem} - {user} else gid


def _above(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The directories on the way to a file, the outermost first, as far as they can be looked at."""
    parts = os.path.dirname(os.path.realpath(path)).split(os.sep)
    for count in range(1, len(parts) + 1):
        directory = os.sep.join(parts[:count]) or os.sep
        try:
            yield directory, os.stat(directory)
        except OSError:
            return


def _may_pass(directory: os.stat_result, gid: int | None) -> bool:
    """Whether members of the group, or all others, may go through; access control lists show in the group's bits."""
    if gid is not None and directory.st_gid == gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)
