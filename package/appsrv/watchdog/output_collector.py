"""Reads the output of all processes of an instance: writes each line to the log, and keeps the last lines of each.

Knows pids, pipes and lines. A line of the server process is an event, any other line is the application's.
"""

from __future__ import annotations

import functools
import selectors
from collections import deque
from collections.abc import Callable, Sequence

from appsrv.logs.line_labels import LabelledLine, LabelReader
from appsrv.logs.line_splitter import OutputPipe
from appsrv.logs.log_format import ACCESS as ACCESS_STREAM
from appsrv.logs.log_format import Origin, last_state, readable
from appsrv.logs.server_log import ACCESS, ServerLog, from_server
from appsrv.logs.traceback_grouping import Tracebacks

KEPT_LINES, KEPT_CHARACTERS = 20, 400
"""How many lines of each process are kept, and how much of each line: all of them have to fit into one message."""

KEPT_PROCESSES = 32
"""Of how many processes that have ended lines are kept."""

FATAL = "Fatal Python error:"
"""The first line that faulthandler writes when a process crashes."""

LINES_BEFORE_FATAL = 5

OnLine = Callable[[str], None]


class Tail:
    """The last lines of one process.

    After a crash faulthandler writes the stack, the innermost frames first. So from `FATAL` on the first lines are
    kept, not the last ones.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._fatal = False

    def add(self, line: str) -> None:
        """Add the next line."""
        if line.startswith(FATAL):
            self._fatal = True
            while len(self.lines) > LINES_BEFORE_FATAL:
                self.lines.popleft()
        if not self._fatal or len(self.lines) < KEPT_LINES:
            self.lines.append(line[:KEPT_CHARACTERS])


class _ApplicationPipe:
    """The lines of one pipe of an application.

    The part of a line that has come is shown on a terminal before the line is complete: a prompt, for example.
    """

    def __init__(
        self, pid: int, stream: str, log: ServerLog, *, emit: Callable[[Origin, LabelledLine, ServerLog, str], None],
        holds: Callable[[Origin], bool],
    ) -> None:
        """`emit` gets each line, with the part of it that was shown already.

        `holds` tells whether lines of an origin wait for the rest of their traceback.
        """
        self._pid, self._stream = pid, stream
        self._log = log
        self._emit = emit
        self._holds = holds
        self._labels = LabelReader()
        self._unfinished: Origin | None = None
        self._shown = ""

    def on_line(self, text: str) -> None:
        """A line is complete."""
        shown, self._shown, self._unfinished = self._shown, "", None
        for line in self._labels.read(text):
            self._emit(self._origin(line), line, self._log, shown)
            shown = ""

    def on_part(self, text: str) -> None:
        """Another part of a line has come, and the line is not complete yet."""
        if self._unfinished is None:
            line = self._labels.begin(text)
            self._unfinished, text = self._origin(line), line.text
        if text and not self._holds(self._unfinished):
            self._log.unfinished(self._unfinished, self._shown, text)
            self._shown += text

    def _origin(self, line: LabelledLine) -> Origin:
        return Origin("App", self._pid, self._stream, line.label)


class Collector:
    """Reads pipes when `selector` finds them readable: the loop then calls the `data` of the selector's key."""

    def __init__(self, selector: selectors.BaseSelector, log: ServerLog, clock: Callable[[], float]) -> None:
        self._selector = selector
        self._clock = clock
        self._log = log
        self._pipes: dict[int, list[OutputPipe]] = {}
        self._lines: dict[int, Tail] = {}
        self._ended: deque[int] = deque()
        self._tracebacks = Tracebacks()

    def collect(self, pid: int, pipes: Sequence[int], log: ServerLog | None) -> None:
        """Begin to read the pipes (stdout, stderr) of a process.

        `log` receives the lines of an application; it is None for the server process.
        """
        self._lines[pid] = Tail()
        for stream, fd in zip(("stdout", "stderr"), pipes, strict=True):
            if log is None and stream == "stdout":
                pipe = OutputPipe(fd, self._on_server_line(pid))
            else:
                to = log or self._log
                lines = _ApplicationPipe(
                    pid, stream, to, emit=self._emit_application_line, holds=self._tracebacks.holds
                )
                pipe = OutputPipe(fd, lines.on_line, lines.on_part if to.is_live else None)
            self._pipes.setdefault(pid, []).append(pipe)
            self._selector.register(fd, selectors.EVENT_READ, self._reader(pid, pipe))

    def last_lines(self, pid: int) -> list[str]:
        """The last lines of the process on either stream, with all that it has written until now."""
        for pipe in self._pipes.get(pid, []):
            pipe.read_all()
        return list(self._lines[pid].lines) if pid in self._lines else []

    def catch_up(self, pid: int) -> None:
        """Write all that the process has written until now to the log. A prompt is shown as part of a line."""
        for pipe in self._pipes.get(pid, []):
            pipe.catch_up()
        self._tracebacks.emit_all()

    def knows(self, pid: int) -> bool:
        """Whether the pipes of this process have come."""
        return pid in self._lines

    def finish(self) -> None:
        """Write to the log what the processes have written and was not read yet."""
        for pipes in self._pipes.values():
            for pipe in pipes:
                pipe.read_all()
        self._tracebacks.emit_all()

    @property
    def due(self) -> float:
        """When to call `emit_due`; infinity when no traceback is held."""
        return self._tracebacks.due

    def emit_due(self) -> None:
        """Write the tracebacks to the log that are complete."""
        self._tracebacks.emit_due(self._clock())

    def _on_server_line(self, pid: int) -> OnLine:
        def on_line(line: str) -> None:
            if line.startswith(ACCESS):
                self._log.output(Origin("Server", pid, ACCESS_STREAM), [line.removeprefix(ACCESS)])
            else:
                self._log.event(*from_server(line))

        return on_line

    def _emit_application_line(self, origin: Origin, line: LabelledLine, server_log: ServerLog, shown: str) -> None:
        self._lines[origin.pid].add(readable(last_state(line.text)))
        if line.access:
            origin = origin._replace(stream=ACCESS_STREAM)
        if not line.label and not line.continues:
            # A line that belongs to no request, such as an access line: it comes after the traceback of its request.
            self._tracebacks.emit_complete(lambda other: isinstance(other, Origin) and other.pid == origin.pid)
        write = functools.partial(server_log.output, origin, before=shown)
        self._tracebacks.add(origin, line.text, write, self._clock(), more=line.more, continues=line.continues)

    def _reader(self, pid: int, pipe: OutputPipe) -> Callable[[], None]:
        def read() -> None:
            if not pipe.read():
                self._selector.unregister(pipe.fileno())
                pipe.close()
                self._closed(pid, pipe)

        return read

    def _closed(self, pid: int, pipe: OutputPipe) -> None:
        pipes = self._pipes.get(pid, [])
        if pipe in pipes:
            pipes.remove(pipe)
        if pipes:
            return
        self._pipes.pop(pid, None)
        self._ended.append(pid)
        while len(self._ended) > KEPT_PROCESSES:
            oldest = self._ended.popleft()
            # A younger process may have the same pid by now. Its lines stay.
            if oldest not in self._pipes:
                self._lines.pop(oldest, None)
