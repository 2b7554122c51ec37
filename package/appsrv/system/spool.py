"""A queue of bytes: in memory up to a limit, beyond that in a file without a path. Knows no HTTP.

It holds request bodies until a worker gets them, and responses for slow clients.
"""

from __future__ import annotations

import os
from typing import IO


class Spool:
    """Append bytes, remove them from the front, or pass the rest on as a descriptor.

    At most `memory` bytes are kept in memory; only a longer queue is written to a file in `directory` (default: the
    system's directory for temporary files). If the disk is full, `write` raises OSError, and so does every later call
    of it, because the content has a gap.
    """

    def __init__(self, memory: int, directory: str | None = None) -> None:
        self._limit = memory
        self._directory = directory
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._taken = 0
        self._written = 0
        self._failed: OSError | None = None

    def __len__(self) -> int:
        return self._written - self._taken

    def write(self, data: bytes | memoryview) -> None:
        """Append data. Raises OSError."""
        if self._failed is not None:
            raise self._failed
        try:
            self._append(data)
        except OSError as error:
            self._failed = error
            raise
        self._written += len(data)

    def _append(self, data: bytes | memoryview) -> None:
        if self._file is None and self._written + len(data) > self._limit:
            self._spill(self._disk_file())
        if self._file is None:
            self._memory += data
        else:
            _write_all(self._file.fileno(), data)

    def peek(self, size: int) -> bytes:
        """At most `size` bytes from the front, without removing them."""
        if self._file is None:
            return bytes(self._memory[self._taken : self._taken + size])
        return os.pread(self._file.fileno(), size, self._taken)

    def take(self, size: int) -> None:
        """Remove `size` bytes from the front."""
        self._taken += size
        if self._taken == self._written:
            self._start_again()

    def read_all(self) -> bytes:
        """All bytes that are left, without removing them."""
        return self.peek(len(self))

    def into_file(self) -> tuple[int, int, int]:
        """(descriptor, offset, length) of the bytes that are left. `close` closes the descriptor."""
        if self._file is None:
            self._spill(self._memory_file())
        assert self._file is not None
        return self._file.fileno(), self._taken, len(self)

    def close(self) -> None:
        """Drop all bytes and close the file."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()

    def _start_again(self) -> None:
        """The spool is empty: free its memory and truncate its file, so that an endless stream does not fill the disk.
        """
        self._taken = self._written = 0
        self._memory.clear()
        if self._file is not None:
            os.truncate(self._file.fileno(), 0)
            os.lseek(self._file.fileno(), 0, os.SEEK_SET)

    def _disk_file(self) -> IO[bytes]:
        import tempfile  # Imported here: it loads 14 modules, and most bodies need no file.

        return tempfile.TemporaryFile(buffering=0, dir=self._directory)

    def _memory_file(self) -> IO[bytes]:
        """A file in memory, if the system has memfd_create(2): another process needs a descriptor of these bytes."""
        if hasattr(os, "memfd_create"):
            return os.fdopen(os.memfd_create("appsrv-spool", os.MFD_CLOEXEC), "w+b", buffering=0)
        return self._disk_file()

    def _spill(self, file: IO[bytes]) -> None:
        try:
            _write_all(file.fileno(), bytes(self._memory))
        except OSError:
            file.close()
            raise
        self._file = file
        self._memory = bytearray()


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
