"""Where an instance may keep its files: run directories, in the order in which they are tried, and state.

The places differ from machine to machine: a user without a home directory or a name (containers), a file system that
is read-only but for one directory. Knows directories and users, no instance and no settings.
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
    """Where this user's instances may be, the first choice for a new one first.

    All are searched: a service started at boot has no $XDG_RUNTIME_DIR, the shell that asks for it has one. A place
    that every user can change comes after all others.
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
    """A directory below the state directory, which is made if need be; None where nothing can be written there."""
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
    """Whether every user can rename in it what is another's: all may write, and it has no sticky bit (inode(7)).

    An emptyDir of Kubernetes is such a directory. There a run directory of ours can be replaced by another user.
    """
    found = _directory(place)
    return found is not None and bool(found.st_mode & stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX


def private_directory(place: Path) -> Path:
    """Makes it, mode 0700, or refuses: its owner could replace the admin socket."""
    try:
        os.makedirs(place.parent, mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
        # Not followed: the name may stand in a directory in which every user can make links.
        found = os.lstat(place)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise RunDirectoryError(f"{place} is no directory of this user: remove it, set XDG_RUNTIME_DIR")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.chmod(place, 0o700)
        if not os.access(place, os.W_OK | os.X_OK):
            raise RunDirectoryError(f"{place} cannot be used as run directory: it cannot be written to")
    except OSError as error:
        raise RunDirectoryError(f"{place} cannot be used as run directory: {error.strerror}") from None
    return place


def directories_in(base: Path) -> Iterator[Path]:
    """The directories in a base of this user, by name; none where it is another's or a link."""
    if not _is_ours(base):
        return
    with contextlib.suppress(OSError):
        yield from (entry for entry in sorted(base.iterdir()) if entry.is_dir() and not entry.is_symlink())


def _is_ours(place: Path) -> bool:
    """Whether it is a directory of this user, and no link to one.

    $XDG_RUNTIME_DIR of another user survives `su` and `sudo`. In the temporary directory every user can make a link of
    that name to any directory of this user, where what looks like a dead instance would be removed.
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
        # A container may run as any number.
        return ""


def _is_trusted(place: str) -> bool:
    """Whether root or this user owns the directory: its owner can replace what others make in it."""
    found = _directory(place) if os.path.isabs(place) else None
    return found is not None and found.st_uid in (0, os.geteuid())


def _directory(place: str | Path) -> os.stat_result | None:
    try:
        found = os.stat(place)
    except OSError:
        return None
    return found if stat.S_ISDIR(found.st_mode) else None
