"""Opens a file that must be inside a directory, even if its name contains `..` or symbolic links.

The name is resolved first; then each component of the result is opened without following links. If a component is
replaced by a link between the two steps, open(2) fails: the replacement cannot lead out of the directory. Knows files
only.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_SUCH_FILE = (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class OutsideRoot(Exception):
    """The name resolves to a file outside the directory."""


def open_below(root: bytes, name: bytes) -> int:
    """A descriptor, for reading, of the regular file `name` (absolute, or relative to `root`).

    A link is followed if its target is below `root`, which may itself be a link. Raises OutsideRoot if the file is
    elsewhere, FileNotFoundError if there is no such regular file, and other OSErrors of open(2).
    """
    top = os.path.realpath(root)
    real = os.path.realpath(os.path.join(root, name))
    if real == top:
        raise FileNotFoundError(f"{os.fsdecode(root)} is a directory")
    if not real.startswith(top.rstrip(b"/") + b"/"):
        raise OutsideRoot(os.fsdecode(name))
    *directories, last = real[len(top) :].strip(b"/").split(b"/")
    at = os.open(top, _DIRECTORY)
    try:
        for directory in directories:
            below = os.open(directory, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return _open_regular(last, at)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise FileNotFoundError(error.errno, error.strerror) from error
        raise
    finally:
        os.close(at)


def _open_regular(name: bytes, directory: int) -> int:
    # Checked before open(2), because opening a device can have side effects, and again afterwards, because the file may
    # have been replaced between the two calls.
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise FileNotFoundError(f"{os.fsdecode(name)} is not a regular file")
    fd = os.open(name, _FILE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(f"{os.fsdecode(name)} is not a regular file")
    return fd
