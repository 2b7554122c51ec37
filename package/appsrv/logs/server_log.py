"""The server log: one line per event and per line of output, in a file and, in the foreground, on the terminal.

    2026-11-22 18:33:08.123 INFO     App 4711 stdout: hello
    2026-11-22 18:33:08.456 INFO     [5c0f2a9b71d3-17 GET /orders] App 4711 stdout: printed for a request
    2026-11-22 18:33:09.001 WARNING  worker 4711 of /srv/shop ended: killed by SIGKILL

This is the form `text`; `log_format` has the others. In the form `plain` the terminal shows the application's output
as it is: its stdout on stdout, its stderr on stderr, and appsrv's own lines on stderr, too. The watchdog writes the
log; the server sends its lines through a pipe (`to_watchdog`, `from_server`). The file is opened again after it was
renamed, so that rotation loses no line. Knows lines and levels, not processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

from appsrv.errors import RunDirectoryError
from appsrv.logs.log_format import (
    AS_WRITTEN,
    JSON,
    PLAIN,
    TEXT,
    Origin,
    as_written,
    event_line,
    last_state,
    output_lines,
    readable,
)
from appsrv.system.screen import OutputScreen

LINE = "%(asctime)s.%(msecs)03d %(levelname)-8s %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"
if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    # Python 3.10 has no type parameter for it.
    _StreamHandler = logging.StreamHandler

_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_SERVER_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error", "critical")}
_COLOURS = {"DEBUG": "thin_white", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold_red"}


class ServerLog:
    """The log file at `path`, in the form `form`, and a stream, `terminal`, that shows the lines in the form `shown`.

    `level` is the lowest one that is logged. `quiet`: appsrv's own lines below WARNING go to the file only. `colour`:
    in the form `plain`, lines have the label of their request. `owner()` is a context in which the file is opened, at
    the start and after each rotation: there the process has the user that owns the file. `blocks`: for a FIFO or
    device, block until it is read (the operator's log only). Other logs drop lines. Raises RunDirectoryError.
    """

    def __init__(
        self, path: str, level: str, terminal: TextIO | None, *, form: str = TEXT, shown: str = TEXT,
        quiet: bool = False, colour: bool = False, owner: Callable[[], AbstractContextManager[None]] = nullcontext,
        blocks: bool = True,
    ) -> None:
        self.path = path
        self._form, self._shown = form, shown
        self._file = _FileHandler(path, owner, 0 if blocks else os.O_NONBLOCK)
        self._quiet = quiet
        self._colour = colour
        self._terminal = _TerminalHandler(terminal) if terminal is not None else None
        self._lowest = LEVELS[level]
        # If both streams are terminals, a line on one of them may break an unfinished line on the other.
        live = terminal is not None and shown == PLAIN and _is_terminal(terminal) and _is_terminal(sys.stderr)
        self._screen = OutputScreen(self._label) if live else None

    def event(self, level: int, text: str) -> None:
        """Log a line of appsrv's own. `level` is one of `logging`."""
        if level < self._lowest:
            return
        # Formatted once, so that the file and the terminal have the same time.
        line = event_line(logging.getLevelName(level), text) if JSON in (self._form, self._shown) else ""
        if self._form == JSON:
            self._file.raw(line)
        else:
            for part in _lines(readable(text)):
                self._file.handle(_record(level, part))
        if self._terminal is None or (self._quiet and level < logging.WARNING):
            return
        if self._shown == JSON:
            self._terminal.raw(line, error=False)
            return
        for part in _lines(readable(text)):
            record = _record(level, part)
            if self._screen is not None:
                self._terminal.put(self._screen.other(self._terminal.format(record) + "\n"), error=True)
            else:
                self._terminal.show(record, error=self._shown == PLAIN)

    @property
    def is_live(self) -> bool:
        """Whether the terminal shows unfinished lines."""
        return self._screen is not None

    def unfinished(self, origin: Origin, before: str, new: str) -> None:
        """Show `new`, a further part of an unfinished line of an application process; `before` has been shown."""
        if self._screen is not None and self._terminal is not None:
            self._terminal.put(self._screen.extend(origin, before, new), error=origin.error)

    def output(self, origin: Origin, lines: Sequence[str], before: str = "") -> None:
        """Log lines that an application process has written with one call; no level filters them.

        `before` is the part of the first line that the terminal has shown already.
        """
        written = output_lines(self._form, origin, lines)
        for line in written:
            if self._form == TEXT:
                self._file.handle(_record(logging.INFO, line))
            else:
                self._file.raw(line)
        if self._terminal is None:
            return
        if self._screen is not None:
            for line in lines:
                self._terminal.put(self._screen.line(origin, line, before), error=origin.error)
                before = ""
        elif self._shown == PLAIN:
            for line in lines:
                self._terminal.raw(self._label(origin) + line, error=origin.error)
        elif self._shown == JSON:
            for line in written if self._form == JSON else output_lines(JSON, origin, lines):
                self._terminal.raw(line, error=False)
        else:
            for line in lines:
                shown = readable(last_state(line) if "\r" in line else line)
                self._terminal.show(_record(logging.INFO, f"{origin.named}: {shown}"), error=False)

    def _label(self, origin: object) -> str:
        if isinstance(origin, Origin) and origin.label and self._colour:
            return f"{_DIM}[{origin.pid} {origin.label}]{_RESET} "
        return ""

    def reopen(self) -> None:
        """Open the path again, after a rotation."""
        self._file.reopen()

    def close(self) -> None:
        """Close the file. Later lines are not written to it."""
        self._file.close()


class _FileHandler(logging.FileHandler):
    """Opens its file again after it was renamed. A full disk loses lines; it never raises in the watchdog.

    The handler of `logging.handlers` that does so would need pickle and queue: milliseconds of each start.
    """

    def __init__(self, path: str, owner: Callable[[], AbstractContextManager[None]], flags: int) -> None:
        self._owner = owner
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | flags
        try:
            super().__init__(path, encoding="utf-8", errors=AS_WRITTEN)
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
        self._identity = _identity(os.fstat(fd))
        return open(fd, "a", encoding="utf-8", errors=AS_WRITTEN)

    def _follow_rename(self) -> None:
        """Open the file again if its path is the one of another file by now, or of none."""
        try:
            found = _identity(os.stat(self.baseFilename))
        except FileNotFoundError:
            found = None
        if found != self._identity and self.stream is not None:
            # None first: should opening fail, the next line tries again and does not use a closed stream.
            stream, self.stream = self.stream, None
            stream.close()
            self.stream = self._open()

    def raw(self, line: str) -> None:
        """Write a line that has its final form."""
        self.handle(_record(logging.NOTSET, line))

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.levelno == logging.NOTSET else super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        if self._ended:
            # The base class would open the file again.
            return
        # The base classes do not catch an OSError from opening the file again.
        try:
            self._follow_rename()
            super().emit(record)
        except OSError:
            self.handleError(record)

    def reopen(self) -> None:
        """Open the file again, though it may not have been renamed."""
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
    """Writes in colour on a terminal, unless NO_COLOR is set (colorlog reads it)."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        import colorlog

        layout = "%(asctime)s.%(msecs)03d %(log_color)s%(levelname)-8s%(reset)s %(message)s"
        self.setFormatter(colorlog.ColoredFormatter(layout, TIME, log_colors=_COLOURS, stream=stream))

    def show(self, record: logging.LogRecord, *, error: bool) -> None:
        """Write the record, to stderr or to the terminal's stream."""
        if error:
            self.raw(self.format(record), error=True)
        else:
            self.handle(record)

    def raw(self, text: str, *, error: bool) -> None:
        """Write a line as the bytes that the application wrote, to stderr or to the terminal's stream."""
        self.put(f"{text}\n", error=error)

    def put(self, text: str, *, error: bool) -> None:
        """Write any text in the same way."""
        stream = sys.stderr if error else self.stream
        with contextlib.suppress(OSError, ValueError):
            _write_bytes(stream, as_written(text))

    def handleError(self, record: logging.LogRecord) -> None:
        """Does nothing when the terminal has been closed: the file has the line."""


def _lines(text: str) -> list[str]:
    """The lines of one event. Lines after the first are indented: a line feed in a directory's name forges no event."""
    first, *more = text.splitlines() or [""]
    return [first, *(f"  {line}" for line in more)]


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_terminal(stream: TextIO) -> bool:
    return not stream.closed and stream.isatty()


def _write_bytes(stream: TextIO, data: bytes) -> None:
    """Write bytes to the stream's buffer, without the encoding of the stream."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(data.decode("utf-8", "backslashreplace"))
        stream.flush()
        return
    stream.flush()
    buffer.write(data)
    buffer.flush()


def _record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("appsrv", level, "", 0, text, None, None)


# -- from the server to the watchdog ------------------------------------------------------------------------------


class _OneLine(logging.Formatter):
    """Formats a record and its traceback as one line: the level, a space, the text with NULs in place of line ends."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).replace("\0", "\\x00").splitlines() or [""]
        return f"{record.levelname} " + "\0".join(lines)


def to_watchdog(level: str) -> None:
    """Have `logging` of this process write to its stdout, which the watchdog reads. `level` is a name in `LEVELS`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_OneLine("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])


# The prefix of an access log line in the pipe from the server to the watchdog.
ACCESS = "ACCESS "


class AccessLines:
    """Sends the server's own access log lines to the server log. No level filters them."""

    def write(self, line: str) -> None:
        """Append a line."""
        sys.stdout.write(f"{ACCESS}{line}\n")
        sys.stdout.flush()

    def reopen(self) -> None:
        """Does nothing: the watchdog opens the file again."""


def from_server(line: str) -> tuple[int, str]:
    """(level, text) of a line that `to_watchdog` wrote. Any other line that the server printed has the level ERROR."""
    name, _, text = line.partition(" ")
    level = logging.getLevelName(name)
    return (level, text.replace("\0", "\n")) if level in _SERVER_LEVELS else (logging.ERROR, line)
