"""The directories where an instance may keep its files: run directories, in the order of preference, and state.

They differ from machine to machine: in a container the user may have neither a name nor a home directory, and all but
one directory may be read-only. Knows directories and users, no instance and no settings.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from appsrv.errors import RunDirectoryError

TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")


def bases(environ: Mapping[str, str]) -> list[Path]:
    """The directories that may contain run directories of this user; a new instance uses the first that it can.

    Commands search all of them: a service that was started at boot has no $XDG_RUNTIME_DIR, but the shell that runs
    `appsrv status` has one. Directories in which every user can rename files come last.
    """
    uid = os.geteuid()
    runtime = [environ.get("XDG_RUNTIME_DIR", ""), "/run" if uid == 0 else "", f"/run/user/{uid}"]
    places = [Path(place, "appsrv") for place in runtime if _is_trusted(place)]
    state = state_directory(environ)
    if state is not None:
        places.append(state / "run")
    temporary = dict.fromkeys([environ.get("TMPDIR", ""), *TEMPORARY])
    places += [Path(place, f"appsrv-{uid}") for place in temporary if _is_trusted(place)]
    return sorted(dict.fromkeys(places), key=lambda place: is_changed_by_all(place.parent))


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """`$XDG_STATE_HOME/appsrv`, by default `~/.local/state/appsrv`; None for a user without a home directory."""
    chosen = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen, "appsrv")
    home = environ.get("HOME") or _home()
    return Path(home, ".local", "state", "appsrv") if os.path.isabs(home) else None


def writable_state(environ: Mapping[str, str], *parts: str) -> Path | None:
    """A directory below the state directory, created if it does not exist. None if it is not writable."""
    state = state_directory(environ)
    if state is None:
        return None
    place = state.joinpath(*parts)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return place if os.access(place, os.W_OK | os.X_OK) else None


def is_changed_by_all(place: Path) -> bool:
    """Whether every user can rename the files of others in it: all may write, and it has no sticky bit (inode(7)).

    An emptyDir of Kubernetes is such a directory. Another user could replace a run directory there.
    """
    found = _directory(place)
    return found is not None and bool(found.st_mode & stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX


def private_directory(place: Path) -> Path:
    """Create the directory with mode 0700, or check that an existing one belongs to this user and set its mode.

    Raises RunDirectoryError: the owner of the directory could replace the admin socket in it.
    """
    try:
        os.makedirs(place.parent, mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
        # lstat, which does not follow a link: in /tmp another user could have made a link of this name.
        found = os.lstat(place)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise RunDirectoryError(f"{place} is not a directory of this user: remove it, set XDG_RUNTIME_DIR")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.chmod(place, 0o700)
        if not os.access(place, os.W_OK | os.X_OK):
            raise RunDirectoryError(f"{place} cannot be used as run directory: it cannot be written to")
    except OSError as error:
        raise RunDirectoryError(f"{place} cannot be used as run directory: {error.strerror}") from None
    return place


def directories_in(base: Path) -> Iterator[Path]:
    """The directories in `base`, by name. None if `base` belongs to another user or is a link."""
    if not _is_ours(base):
        return
    with contextlib.suppress(OSError):
        yield from (entry for entry in sorted(base.iterdir()) if entry.is_dir() and not entry.is_symlink())


def _is_ours(place: Path) -> bool:
    """Whether it is a directory that belongs to this user, and not a link.

    After `su` or `sudo`, $XDG_RUNTIME_DIR may still be that of another user. In the temporary directory, another user
    can make a link of this name to any directory of this user, and directories in it that look like dead instances
    would be removed.
    """
    try:
        found = os.lstat(place)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        # In a container the user id may have no entry in the user database.
        return ""


def _is_trusted(place: str) -> bool:
    """Whether root or this user owns the directory. The owner of a directory can replace the files of others in it."""
    found = _directory(place) if os.path.isabs(place) else None
    return found is not None and found.st_uid in (0, os.geteuid())


def _directory(place: str | Path) -> os.stat_result | None:
    try:
        found = os.stat(place)
    except OSError:
        return None
    return found if stat.S_ISDIR(found.st_mode) else None
