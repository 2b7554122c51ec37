"""The server log: one line per event and per line of output, in a file and, in the foreground, on the terminal.

    2026-11-22 18:33:08.123 INFO     App 4711 stdout: hello
    2026-11-22 18:33:08.456 INFO     [5c0f2a9b71d3-17 GET /orders] App 4711 stdout: printed for a request
    2026-11-22 18:33:09.001 WARNING  worker 4711 of /srv/shop ended: killed by SIGKILL

The watchdog owns it; the server writes to it through a pipe (`to_watchdog`, `from_server`). The file is opened again
when it was moved away, so that rotation loses nothing. Knows lines and levels, not processes.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

from appsrv.errors import RunDirectoryError

LINE = "%(asctime)s.%(msecs)03d %(levelname)-8s %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"
if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    # Python 3.10 has no type parameter for it.
    _StreamHandler = logging.StreamHandler

_COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_SERVER_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error", "critical")}
_COLOURS = {"DEBUG": "thin_white", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold_red"}


class ServerLog:
    """Where lines go. `terminal` is a stream to show them on as well; `plain` shows application output as it is, with
    its label where there are colours (`colour`).

    The file is opened within `owner()`, again after each rotation. `waits`: whether a pipe or device in its place is
    waited for, as only the operator's may be; else it loses lines.
    """

    def __init__(
        self, path: str, level: str, terminal: TextIO | None, *, plain: bool = False, colour: bool = False,
        owner: Callable[[], AbstractContextManager[None]] = nullcontext, waits: bool = True,
    ) -> None:
        self.path = path
        self._file = _FileHandler(path, owner, 0 if waits else os.O_NONBLOCK)
        self._plain = plain
        self._colour = colour
        self._terminal = _TerminalHandler(terminal) if terminal is not None else None
        self._lowest = LEVELS[level]

    def event(self, level: int, text: str) -> None:
        """Something appsrv has to say."""
        if level < self._lowest:
            return
        for line in _lines(text):
            record = _record(level, line)
            self._file.handle(record)
            if self._terminal is not None and (not self._plain or level >= logging.WARNING):
                self._terminal.handle(record)

    def output(self, source: str, text: str, *, error: bool, label: str = "") -> None:
        """One line an application process has written, `label` says for which request; never filtered."""
        bare = _COLOUR_CODE.sub("", text) if "\x1b" in text else text
        whole = f"[{label}] {source}" if label else source
        self._file.handle(_record(logging.INFO, f"{whole}: {bare}"))
        if self._terminal is None:
            return
        if not self._plain:
            self._terminal.handle(_record(logging.INFO, f"{whole}: {text}"))
        elif label and self._colour:
            self._terminal.raw(f"{_DIM}[{source.split()[1]} {label}]{_RESET} {text}", error=error)
        else:
            self._terminal.raw(text, error=error)

    def reopen(self) -> None:
        """Open the file again under its name."""
        self._file.reopen()

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()


class _FileHandler(logging.handlers.WatchedFileHandler):
    """Opens its file again when that was moved; a disk that is full costs lines, never the watchdog."""

    def __init__(self, path: str, owner: Callable[[], AbstractContextManager[None]], flags: int) -> None:
        self._owner = owner
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | flags
        try:
            super().__init__(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise RunDirectoryError(
                f"cannot write the server log {path}: {error.strerror} (choose another with --log-file)"
            ) from error
        self.setFormatter(logging.Formatter(LINE, TIME))
        self._lost = 0
        self._ended = False

    def _open(self) -> TextIOWrapper:
        with self._owner():
            fd = os.open(self.baseFilename, self._flags, 0o640)
        return open(fd, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        if self._ended:
            # The base class would open it again.
            return
        # What goes wrong while the file is opened again is not caught by the base classes.
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def reopen(self) -> None:
        """As `reopenIfNeeded`, whether or not the file has moved."""
        stream, self.stream = self.stream, None
        try:
            if stream is not None:
                stream.close()
        except OSError:
            self._complain()
        try:
            self.stream = self._open()
        except OSError:
            self._complain()

    def close(self) -> None:
        self._ended = True
        try:
            super().close()
        except OSError:
            self._complain()

    def handleError(self, record: logging.LogRecord) -> None:
        self._complain()

    def _complain(self) -> None:
        self._lost += 1
        if self._lost == 1:
            reason = sys.exc_info()[1]
            sys.stderr.write(f"appsrv: the server log {self.baseFilename} cannot be written: {reason}\n")


class _TerminalHandler(_StreamHandler):
    """In colour on a terminal, unless NO_COLOR says otherwise (colorlog knows)."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        import colorlog

        layout = "%(asctime)s.%(msecs)03d %(log_color)s%(levelname)-8s%(reset)s %(message)s"
        self.setFormatter(colorlog.ColoredFormatter(layout, TIME, log_colors=_COLOURS, stream=stream))

    def raw(self, text: str, *, error: bool) -> None:
        """The line as the application wrote it, on the stream it wrote it to."""
        stream = sys.stderr if error else self.stream
        try:
            stream.write(f"{text}\n")
            stream.flush()
        except (OSError, ValueError):
            return

    def handleError(self, record: logging.LogRecord) -> None:
        """A terminal that has gone away loses nothing: the file has the line."""


def _lines(text: str) -> list[str]:
    """The lines of one event. What comes after a line feed, in the name of a directory say, is no event of its own."""
    first, *more = text.splitlines() or [""]
    return [first, *(f"  {line}" for line in more)]


def _record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("appsrv", level, "", 0, text, None, None)


# -- from the server to the watchdog ------------------------------------------------------------------------------


class _PrefixedLines(logging.Formatter):
    """Every line of a record, tracebacks too, starts with the record's level; all but the first are indented."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"{record.levelname} {line}" for line in _lines(super().format(record)))


def to_watchdog(level: str) -> None:
    """Let `logging` of this process write to its stdout, which the watchdog reads."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_PrefixedLines("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])


# What a line of the access log starts with on its way from the server.
ACCESS = "ACCESS "


class AccessLines:
    """The way of the server's own lines of the access log into the server log, past all levels."""

    def write(self, line: str) -> None:
        """Append a line."""
        sys.stdout.write(f"{ACCESS}{line}\n")
        sys.stdout.flush()

    def reopen(self) -> None:
        """Nothing to do: the watchdog owns the file."""


def from_server(line: str) -> tuple[int, str]:
    """(level, text) of a line that `to_watchdog` wrote; whatever else the server printed is an error."""
    name, _, text = line.partition(" ")
    level = logging.getLevelName(name)
    return (level, text) if level in _SERVER_LEVELS else (logging.ERROR, line)
