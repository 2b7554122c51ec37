"""Pipes in, whole lines out: what the processes of an instance write to stdout and stderr, on its way to the log.

Knows pipes and lines; what becomes of a line is the `Sayer`'s that it was opened with.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable

from appsrv.logs.line_labels import last_mark, unfinished_mark

Sayer = Callable[[str], None]

READ = 64 * 1024
LONGEST_LINE = 1 << 20


class LineSplitter:
    """Bytes as they come, lines as they were meant. A line longer than `LONGEST_LINE` bytes is given in parts.

    `labelled`: a label within an unfinished line ends what stands before it, as its reader would have it.
    """

    def __init__(self, *, labelled: bool = False) -> None:
        self._labelled = labelled
        self._rest = b""
        # How much of it `unshown` has given.
        self._shown = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._labelled and b"\0" in self._rest and (begun := last_mark(self._rest)):
            lines.append(self._rest[:begun])
            self._rest = self._rest[begun:]
        if lines:
            self._shown = 0
        if len(self._rest) > LONGEST_LINE:
            end = _end_of_characters(self._rest)
            lines.append(self._rest[:end])
            self._rest = self._rest[end:]
            self._shown = 0
        return [self._text(line) for line in lines]

    def unshown(self) -> str:
        """What has come of the unfinished line since this was asked for last: whole characters, and whole labels."""
        new = self._rest[self._shown : unfinished_mark(self._rest)]
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        text = decoder.decode(new)
        self._shown += len(new) - len(decoder.getstate()[0])
        return text

    def finish(self) -> list[str]:
        """What the last line had without its end."""
        rest, self._rest, self._shown = self._rest, b"", 0
        return [self._text(rest)] if rest else []

    def _text(self, line: bytes) -> str:
        # What has been shown of a line is part of it.
        whole = line if self._labelled else line.removesuffix(b"\r")
        # A byte that is no UTF-8 becomes a lone surrogate, from which it can be made again (PEP 383).
        return whole.decode("utf-8", "surrogateescape")


class OutputPipe:
    """The read end of one pipe. `read` says each complete line; it returns False at the end.

    `show`, where there is one, is told how an unfinished line goes on.
    """

    def __init__(self, fd: int, say: Sayer, show: Sayer | None = None) -> None:
        self._fd = fd
        self._say = say
        self._show = show
        self._splitter = LineSplitter(labelled=show is not None)
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
        self._show_unfinished()
        return bool(data)

    def catch_up(self) -> None:
        """Take all that is there now; what stands without an end is shown, or else said."""
        self._take_all()
        if self._show is None:
            for line in self._splitter.finish():
                self._say(line)
        self._show_unfinished()

    def read_all(self) -> None:
        """Take all that is there now, and say what stands without an end."""
        self._take_all()
        for line in self._splitter.finish():
            self._say(line)

    def _show_unfinished(self) -> None:
        if self._show is not None and (text := self._splitter.unshown()):
            self._show(text)

    def _take_all(self) -> None:
        try:
            while data := os.read(self._fd, READ):
                for line in self._splitter.feed(data):
                    self._say(line)
        except BlockingIOError:
            pass

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
