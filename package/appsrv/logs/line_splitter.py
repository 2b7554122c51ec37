"""Splits the output of the processes of an instance (stdout and stderr, which are pipes) into lines.

Knows pipes and lines. The `LineHandler` that a pipe was opened with decides where a line goes.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable

from appsrv.logs.line_labels import last_mark, unfinished_mark

LineHandler = Callable[[str], None]

READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 1 << 20


class LineSplitter:
    """Splits bytes into lines, whatever pieces they come in. A line longer than `MAX_LINE_BYTES` is split into parts.

    `labelled`: a label (`line_labels`) within an unfinished line ends the text before it, as `LabelReader` reads it.
    """

    def __init__(self, *, labelled: bool = False) -> None:
        self._labelled = labelled
        self._rest = b""
        # How many bytes of it `unshown` has returned.
        self._shown = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete with `data`, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._labelled and b"\0" in self._rest and (begun := last_mark(self._rest)):
            lines.append(self._rest[:begun])
            self._rest = self._rest[begun:]
        if lines:
            self._shown = 0
        if len(self._rest) > MAX_LINE_BYTES:
            end = _end_of_characters(self._rest)
            lines.append(self._rest[:end])
            self._rest = self._rest[end:]
            self._shown = 0
        return [self._text(line) for line in lines]

    def unshown(self) -> str:
        """The part of the unfinished line that came since the last call: whole characters and whole labels only."""
        new = self._rest[self._shown : unfinished_mark(self._rest)]
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        text = decoder.decode(new)
        self._shown += len(new) - len(decoder.getstate()[0])
        return text

    def finish(self) -> list[str]:
        """The last line, if the output ended without a line end; at most one."""
        rest, self._rest, self._shown = self._rest, b"", 0
        return [self._text(rest)] if rest else []

    def _text(self, line: bytes) -> str:
        # With labels, a carriage return may have been shown on the terminal already, so it stays part of the line.
        whole = line if self._labelled else line.removesuffix(b"\r")
        # An invalid byte becomes a lone surrogate, from which `log_format` restores the byte (PEP 383).
        return whole.decode("utf-8", "surrogateescape")


class OutputPipe:
    """The read end of one pipe; non-blocking. `on_line` is called with each complete line.

    `on_partial`, if given, is called with each further part of an unfinished line, which a terminal shows at once.
    """

    def __init__(self, fd: int, on_line: LineHandler, on_partial: LineHandler | None = None) -> None:
        self._fd = fd
        self._on_line = on_line
        self._on_partial = on_partial
        self._splitter = LineSplitter(labelled=on_partial is not None)
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._fd

    def read(self) -> bool:
        """Read once. Returns False at the end of the file, True otherwise."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return True
        for line in self._splitter.feed(data) if data else self._splitter.finish():
            self._on_line(line)
        self._show_unfinished()
        return bool(data)

    def catch_up(self) -> None:
        """Read until the pipe is empty. An unfinished line goes to `on_partial`, or without that to `on_line`."""
        self._take_all()
        if self._on_partial is None:
            for line in self._splitter.finish():
                self._on_line(line)
        self._show_unfinished()

    def read_all(self) -> None:
        """Read until the pipe is empty. An unfinished line counts as complete."""
        self._take_all()
        for line in self._splitter.finish():
            self._on_line(line)

    def _show_unfinished(self) -> None:
        if self._on_partial is not None and (text := self._splitter.unshown()):
            self._on_partial(text)

    def _take_all(self) -> None:
        try:
            while data := os.read(self._fd, READ_BYTES):
                for line in self._splitter.feed(data):
                    self._on_line(line)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def _end_of_characters(data: bytes) -> int:
    """The offset at which a line can be cut without splitting a UTF-8 character (of at most 4 bytes) in two."""
    for back, byte in enumerate(data[:-5:-1], 1):
        if byte >= 0xC0:
            return len(data) - back
        if byte < 0x80:
            break
    return len(data)
