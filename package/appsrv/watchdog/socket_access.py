"""Which users may connect to a unix socket: its mode, owner and group, and the directories above it.

Without a setting every user of the machine may connect, as with a port of 127.0.0.1: a web server usually runs as
another user. The umask has no effect. Listens on nothing.
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

ALL_USERS, GROUP_ONLY = 0o666, 0o660


@dataclass(frozen=True)
class SocketAccess:
    """What to set of a socket. `uid` and `gid` are None where they stay. `chosen`: the settings give the mode."""

    mode: int = ALL_USERS
    uid: int | None = None
    gid: int | None = None
    chosen: bool = False

    @classmethod
    def of(cls, settings: Settings) -> SocketAccess:
        """The access as the settings have it.

        Raises SettingsError for a user or group that does not exist, and for another user if this process is not root.
        """
        uid = user_id(settings.socket_user, "socket_user") if settings.socket_user else None
        gid = group_id(settings.socket_group, "socket_group") if settings.socket_group else None
        if uid not in (None, os.geteuid()) and os.geteuid() != 0:
            raise SettingsError(f"socket_user: only root can name {settings.socket_user}; use socket_group")
        mode = int(settings.socket_mode, 8) if settings.socket_mode else (ALL_USERS if gid is None else GROUP_ONLY)
        return cls(mode, uid, gid, settings.socket_mode is not None)

    def apply(self, path: str) -> None:
        """Set mode, owner and group of the socket that is bound at `path` and does not listen yet. Raises ListenError.

        By a descriptor of the socket's file, not by its path. In a directory of another user, that user may have put
        another file, or a link to one, in the place of the socket since it was bound; root must not change that file.
        """
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
        """A line for the log if a directory keeps the intended users from connecting, else None.

        `shared_gid` is the group of the server if other users are members of it, as with systemd's `Group=www-data`.
        """
        if self.gid is None and self.chosen:
            return None
        gid = self.gid if self.gid is not None else shared_gid
        for directory, found in _above(path):
            if not _may_pass(found, gid):
                clients = "other users, such as a web server's," if self.gid is None else "socket_group"
                return (
                    f"{clients} cannot connect to {path}: the directory {directory} is closed to them (mode "
                    f"{stat.S_IMODE(found.st_mode):04o}); open it or put the socket elsewhere"
                    + (", or set socket_mode = \"600\" if that is intended" if self.gid is None else "")
                )
        return None


def shared_group(uid: int, gid: int) -> int | None:
    """The group `gid`; None if it is the user's private group, which has the user's name and no other members."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
    return None if group.gr_name == user and not {*group.gr_mem} - {user} else gid


def _above(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """(directory, its status) of each directory above a file, the root first, until one that cannot be read."""
    parts = os.path.dirname(os.path.realpath(path)).split(os.sep)
    for count in range(1, len(parts) + 1):
        directory = os.sep.join(parts[:count]) or os.sep
        try:
            yield directory, os.stat(directory)
        except OSError:
            return


def _may_pass(directory: os.stat_result, gid: int | None) -> bool:
    """Whether members of the group (None: all other users) may pass the directory.

    An access control list shows in the bits of the group: they are its mask (acl(5)).
    """
    if gid is not None and directory.st_gid == gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)
