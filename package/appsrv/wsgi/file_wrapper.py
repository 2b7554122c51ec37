"""`wsgi.file_wrapper`, and the question which files can be sent by their descriptor. Sends nothing itself."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from tempfile import _TemporaryFileWrapper
from typing import NamedTuple, Protocol

__all__ = ["FilePart", "FileWrapper", "plain_file"]


class Readable(Protocol):
    """What `wsgi.file_wrapper` needs of a file (PEP 3333)."""

    def read(self, size: int, /) -> bytes:
        """Some bytes, none at the end."""


class FileWrapper:
    """An iterable over a file, from its position on."""

    def __init__(self, filelike: Readable, block_size: int = 64 * 1024) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        while data := self.filelike.read(self.block_size):
            yield data

    def close(self) -> None:
        """Close the file, if it can be."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


class FilePart(NamedTuple):
    """What is left of an open file: its descriptor, the position, and the bytes from there to the end."""

    fd: int
    offset: int
    available: int


def plain_file(filelike: object) -> FilePart | None:
    """The rest of a regular file; None for whatever must be read to be understood.

    Exact types only: a gzip file, too, has a descriptor, but that of other bytes than its `read` gives.
    """
    if type(filelike) is _TemporaryFileWrapper:
        filelike = filelike.file
    if type(filelike) is io.BufferedReader or type(filelike) is io.BufferedRandom:
        raw: object = filelike.raw
    else:
        raw = filelike
    if type(raw) is not io.FileIO or not isinstance(filelike, io.IOBase):
        return None
    filelike.flush()
    status = os.fstat(raw.fileno())
    # Files of the kernel (/proc, /sys) say that they are empty.
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    position = filelike.tell()
    return FilePart(raw.fileno(), position, max(0, status.st_size - position))
