"""Opening a file that has to lie below a directory, whatever `..` and links its name goes through.

Names are resolved first, then opened part by part without following a link: what is exchanged in between makes the
opening fail, it does not lead out. Knows files, nothing of what they are for.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_SUCH_FILE = (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class OutsideRoot(Exception):
    """The name leads out of the directory."""


def open_beneath(root: bytes, name: bytes) -> int:
    """A descriptor, for reading, of the regular file `name` (absolute, or relative to `root`).

    Raises OutsideRoot when it lies elsewhere, FileNotFoundError when there is no such regular file, and what other
    OSError the system has. A link is followed as long as it ends below `root`, which may be a link itself.
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
    # Looked at before, since opening a device may do something; and after, since it may have been exchanged.
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise FileNotFoundError(f"{os.fsdecode(name)} is not a regular file")
    fd = os.open(name, _FILE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(f"{os.fsdecode(name)} is not a regular file")
    return fd
