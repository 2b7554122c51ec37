"""The user of the processes that serve: which one the settings mean, and how a process changes to it (credentials(7)).

The watchdog stays root, so that it can listen again and open rotated logs. The server, the preloaders and with them the
workers change to the user before they read any file of the application. Knows users, not the processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from appsrv.errors import OperatorError, SettingsError

PR_SET_DUMPABLE = 4
# The next higher number is (uid_t) -1, which means "do not change" to setuid(2) and chown(2).
LARGEST_ID = 2**32 - 2


@dataclass(frozen=True)
class Identity:
    """A user and its groups. `variables` are the environment variables that its processes get."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def variables(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def identity_of(user: str | None, group: str | None) -> Identity | None:
    """The identity that the settings `user` and `group` name (names or numbers); None for that of this process.

    Raises SettingsError if the user or group does not exist, or if only root could change to it.
    """
    if user is None:
        if group is not None:
            raise SettingsError(f"group: {group} needs a user with it: give --user too")
        return None
    found = _user(user)
    if found is None:
        return _nameless(int(user), group)
    gid = _group(group) if group is not None else found.pw_gid
    if os.geteuid() != 0:
        if (found.pw_uid, gid) == (os.geteuid(), os.getegid()):
            return None
        raise SettingsError(f"user: only root can become {user}; start appsrv as root, or as {user} without --user")
    groups = tuple(sorted({gid, *os.getgrouplist(found.pw_name, gid)}))
    return Identity(found.pw_name, found.pw_uid, gid, groups, found.pw_dir)


def _nameless(uid: int, group: str | None) -> Identity | None:
    """A user id without an entry in the user database, as in containers: its group and home are not known."""
    if os.geteuid() != 0:
        if uid == os.geteuid() and (group is None or _group(group) == os.getegid()):
            return None
        raise SettingsError(f"user: only root can become {uid}; start appsrv as root, or as {uid} without --user")
    if group is None:
        raise SettingsError(f"user: {uid} has no entry in the user database with its group: give --group too")
    gid = _group(group)
    return Identity(str(uid), uid, gid, (gid,), "/")


def become(identity: Identity) -> None:
    """Change the user and groups of this process, irrevocably. Raises OSError."""
    os.setgroups(identity.groups)
    os.setgid(identity.gid)
    os.setuid(identity.uid)
    _allow_inspection()


def drop_privileges(user: str | None, group: str | None) -> None:
    """Change to the user of the settings, if they name one; see `identity_of` and `become`."""
    identity = identity_of(user, group)
    if identity is not None:
        become(identity)


def check_readable(identity: Identity, root: str) -> None:
    """Raises OperatorError if that user cannot read Python's library or the application's directory, `root`."""
    with acting_as(identity):
        try:
            with open(os.__file__, "rb"), os.scandir(root):
                pass
        except OSError as error:
            raise OperatorError(
                f"user {identity.name} cannot read {error.filename}: Python and the application have to be where that "
                "user may read them"
            ) from None


@contextlib.contextmanager
def acting_as(identity: Identity | None) -> Iterator[None]:
    """Within this context, files are opened and created with the rights of that user.

    So a link that the user has made cannot cause root to open or overwrite another file. For a process with one thread
    only, because the effective ids are those of the whole process.
    """
    if identity is None:
        yield
        return
    groups, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
    os.setgroups(identity.groups)
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)


def _user(name: str) -> pwd.struct_passwd | None:
    """The entry in the user database; None for a number without one. Raises SettingsError for an unknown name."""
    try:
        return pwd.getpwuid(int(name)) if _is_number(name) else pwd.getpwnam(name)
    except KeyError:
        if _is_number(name):
            return None
        raise SettingsError(f"user: there is no user {name}") from None


def user_id(name: str, setting: str) -> int:
    """The id of the user in this setting; a number needs no entry in the user database. Raises SettingsError."""
    if _is_number(name):
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise SettingsError(f"{setting}: there is no user {name}") from None


def group_id(name: str, setting: str) -> int:
    """The id of the group in this setting; a number needs no entry in the group database. Raises SettingsError."""
    if _is_number(name):
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SettingsError(f"{setting}: there is no group {name}") from None


def _group(name: str) -> int:
    return group_id(name, "group")


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and int(name) <= LARGEST_ID


def _allow_inspection() -> None:
    # After a change of the user, the kernel makes a process undumpable, and its /proc files belong to root (prctl(2),
    # PR_SET_DUMPABLE). The server, which has the same user, could then not read the memory of workers for `status`.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def user_of_owner(user: str | None, directory: str) -> str | None:
    """The user for an application that was found in `directory`: `user`, or, if root runs the instance, the owner of
    the directory. None: the user that runs the instance.
    """
    if user is not None or os.geteuid() != 0:
        return user
    owner = os.stat(directory).st_uid
    return str(owner) if owner else None
