"""`wsgi.file_wrapper` (PEP 3333), and the test whether a file can be sent by its descriptor. Sends nothing itself."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from tempfile import _TemporaryFileWrapper
from typing import NamedTuple, Protocol

__all__ = ["FilePart", "FileWrapper", "plain_file"]


class ReadableFile(Protocol):
    """The part of a file's interface that `wsgi.file_wrapper` needs (PEP 3333)."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; an empty string at the end of the file."""


class FileWrapper:
    """An iterable over a file from its position on, in pieces of `block_size` bytes."""

    def __init__(self, filelike: ReadableFile, block_size: int = 64 * 1024) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        while data := self.filelike.read(self.block_size):
            yield data

    def close(self) -> None:
        """Close the file, if it has a `close`."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


class FilePart(NamedTuple):
    """The rest of an open file: its descriptor, the position, and the number of bytes from there to the end."""

    fd: int
    offset: int
    available: int


def plain_file(filelike: object) -> FilePart | None:
    """The rest of a regular file whose bytes on disk are the bytes of its `read`; None for every other object.

    Only the exact types of `io` count. A gzip file has a descriptor, too, but its `read` returns other bytes than the
    descriptor's.
    """
    if type(filelike) is _TemporaryFileWrapper:
        filelike = filelike.file
    if type(filelike) is io.BufferedReader or type(filelike) is io.BufferedRandom:
        raw: object = filelike.raw
    else:
        raw = filelike
    if type(raw) is not io.FileIO or not isinstance(filelike, io.IOBase):
        return None
    # Data in Python's write buffer is not in the file yet, and sendfile(2) reads the file.
    filelike.flush()
    status = os.fstat(raw.fileno())
    # Files of the kernel (in /proc and /sys) report a size of 0 although they have content.
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    position = filelike.tell()
    return FilePart(raw.fileno(), position, max(0, status.st_size - position))
