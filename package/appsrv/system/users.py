"""Another user for what serves: which one is meant, and how a process becomes it. Knows users, not what runs as them.

The watchdog stays root, so that it can listen again and follow rotated logs; the server, the preloaders and with them
the workers become the user before they read anything of the application (credentials(7)).
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
# The one above means "leave it as it is" to setuid(2) and chown(2).
LARGEST_ID = 2**32 - 2


@dataclass(frozen=True)
class Identity:
    """A user and the groups it has. `variables` is what its processes find in their environment."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def variables(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def identity_of(user: str | None, group: str | None) -> Identity | None:
    """The identity that the settings name; None when they name none, or the one that this process has anyway.

    Names or numbers. Raises SettingsError for what does not exist or only root could be.
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
    """A number without an entry in the user database, as containers have: nothing tells its group or home."""
    if os.geteuid() != 0:
        if uid == os.geteuid() and (group is None or _group(group) == os.getegid()):
            return None
        raise SettingsError(f"user: only root can become {uid}; start appsrv as root, or as {uid} without --user")
    if group is None:
        raise SettingsError(f"user: {uid} has no entry in the user database that tells its group: give --group too")
    gid = _group(group)
    return Identity(str(uid), uid, gid, (gid,), "/")


def become(identity: Identity) -> None:
    """Make this process that user's, for good."""
    os.setgroups(identity.groups)
    os.setgid(identity.gid)
    os.setuid(identity.uid)
    _allow_inspection()


def give_up(user: str | None, group: str | None) -> None:
    """Become the user of the settings, where they name one; see `identity_of` and `become`."""
    identity = identity_of(user, group)
    if identity is not None:
        become(identity)


def check_reach(identity: Identity, root: str) -> None:
    """Raises OperatorError when that user cannot read Python's library or the application's directory."""
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
    """What is opened and made in between is opened and made by that user: no link leads root astray.

    For a process with one thread: the identity is the process's.
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
    """The entry of the user database; None for a number that has none."""
    try:
        return pwd.getpwuid(int(name)) if _is_number(name) else pwd.getpwnam(name)
    except KeyError:
        if _is_number(name):
            return None
        raise SettingsError(f"user: there is no user {name}") from None


def user_id(name: str, setting: str) -> int:
    """The number of the user that this setting names. A number needs no entry in the user database."""
    if _is_number(name):
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise SettingsError(f"{setting}: there is no user {name}") from None


def group_id(name: str, setting: str) -> int:
    """The number of the group that this setting names. A number needs no entry in the group database."""
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
    # A process that has changed its user is closed to its own kind: `status` could not tell its memory (prctl(2)).
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def user_of_owner(user: str | None, directory: str) -> str | None:
    """Whose an application is that was only found there: that of `user`, else, for root, of the directory's owner.

    None: that of whoever runs the instance.
    """
    if user is not None or os.geteuid() != 0:
        return user
    owner = os.stat(directory).st_uid
    return str(owner) if owner else None
