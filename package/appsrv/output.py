"""Pipes in, whole lines out: what the processes of an instance write to stdout and stderr, on its way to the log.

Knows pipes and lines; what becomes of a line is the `Sayer`'s that it was opened with.
"""

from __future__ import annotations

import os
from collections.abc import Callable

Sayer = Callable[[str], None]

READ = 64 * 1024
LONGEST_LINE = 1 << 20


class LineSplitter:
    """Bytes as they come, lines as they were meant. A line longer than `LONGEST_LINE` bytes is given in parts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            end = _end_of_characters(self._rest)
            lines.append(self._rest[:end])
            self._rest = self._rest[end:]
        return [_text(line) for line in lines]

    def finish(self) -> list[str]:
        """What the last line had without its end."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


class OutputPipe:
    """The read end of one pipe. `read` says each complete line; it returns False at the end."""

    def __init__(self, fd: int, say: Sayer) -> None:
        self._fd = fd
        self._say = say
        self._splitter = LineSplitter()
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._fd

    def read(self) -> bool:
        """Take what is there, once."""
        try:
            data = os.read(self._fd, READ)
        except BlockingIOError:
            return True
        for line in self._splitter.feed(data) if data else self._splitter.finish():
            self._say(line)
        return bool(data)

    def read_all(self) -> None:
        """Take all that is there now, and say what stands without an end."""
        try:
            while data := os.read(self._fd, READ):
                for line in self._splitter.feed(data):
                    self._say(line)
        except BlockingIOError:
            pass
        for line in self._splitter.finish():
            self._say(line)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _end_of_characters(data: bytes) -> int:
    """Where a line can be cut without breaking a character of UTF-8 in two."""
    for back, byte in enumerate(data[:-5:-1], 1):
        if byte >= 0xC0:
            return len(data) - back
        if byte < 0x80:
            break
    return len(data)


def _text(line: bytes) -> str:
    # A byte that is no UTF-8 becomes a lone surrogate, from which it can be made again (PEP 383).
    return line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
