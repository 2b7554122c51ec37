"""Collects what the processes of an instance print: every line goes to the log, the last ones of each are remembered.

The watchdog's ears. Knows pids, pipes and lines; a line of the server is an event, all others are the application's.
"""

from __future__ import annotations

import functools
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence

from appsrv.logs.line_labels import LabelledLine, LabelReader
from appsrv.logs.line_splitter import OutputPipe
from appsrv.logs.log_format import ACCESS as ACCESS_STREAM
from appsrv.logs.log_format import Origin, last_state, readable
from appsrv.logs.server_log import ACCESS, ServerLog, from_server
from appsrv.logs.traceback_grouping import Tracebacks

# What is remembered: lines per process, characters of each (all have to fit into one message), ended processes.
LINES, WIDTH, ENDED = 20, 400, 32
FATAL, BEFORE_FATAL = "Fatal Python error:", 5

Say = Callable[[str], None]


class Tail:
    """The last lines of one process. Of the stack that faulthandler writes at the end, its first lines count."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LINES)
        self._fatal = False

    def add(self, line: str) -> None:
        """One more line."""
        if line.startswith(FATAL):
            self._fatal = True
            while len(self.lines) > BEFORE_FATAL:
                self.lines.popleft()
        if not self._fatal or len(self.lines) < LINES:
            self.lines.append(line[:WIDTH])


class _Lines:
    """What one pipe of an application says. `tell` takes its lines, with what was shown of each before it was whole;
    `holds`: whether lines of this origin wait for the rest of their traceback.
    """

    def __init__(
        self, pid: int, stream: str, log: ServerLog, tell: Callable[[Origin, LabelledLine, ServerLog, str], None],
        holds: Callable[[Origin], bool],
    ) -> None:
        self._pid, self._stream = pid, stream
        self._log = log
        self._tell = tell
        self._holds = holds
        self._labels = LabelReader()
        self._unfinished: Origin | None = None
        self._before = ""

    def say(self, text: str) -> None:
        """A line is complete."""
        before, self._before, self._unfinished = self._before, "", None
        for line in self._labels.read(text):
            self._tell(self._origin(line), line, self._log, before)
            before = ""

    def show(self, text: str) -> None:
        """A line goes on, and is unfinished still."""
        if self._unfinished is None:
            line = self._labels.begin(text)
            self._unfinished, text = self._origin(line), line.text
        if text and not self._holds(self._unfinished):
            self._log.unfinished(self._unfinished, self._before, text)
            self._before += text

    def _origin(self, line: LabelledLine) -> Origin:
        return Origin("App", self._pid, self._stream, line.label)


class Collector:
    """Reads pipes as `selector` finds them readable; the selector calls each key's `data`."""

    def __init__(
        self, selector: selectors.BaseSelector, log: ServerLog, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._selector = selector
        self._clock = clock
        self._log = log
        self._pipes: dict[int, list[OutputPipe]] = {}
        self._lines: dict[int, Tail] = {}
        self._ended: deque[int] = deque()
        self._tracebacks = Tracebacks()

    def collect(self, pid: int, pipes: Sequence[int], log: ServerLog | None) -> None:
        """Read from now on what this process writes to (stdout, stderr): an application, for `log`, or the server."""
        self._lines[pid] = Tail()
        for stream, fd in zip(("stdout", "stderr"), pipes, strict=True):
            if log is None and stream == "stdout":
                pipe = OutputPipe(fd, self._server_says(pid))
            else:
                to = log or self._log
                lines = _Lines(pid, stream, to, self._application_line, self._tracebacks.holds)
                pipe = OutputPipe(fd, lines.say, lines.show if to.is_live else None)
            self._pipes.setdefault(pid, []).append(pipe)
            self._selector.register(fd, selectors.EVENT_READ, self._reader(pid, pipe))

    def last_lines(self, pid: int) -> list[str]:
        """The last lines that the process wrote to either stream, everything it has written by now included."""
        for pipe in self._pipes.get(pid, []):
            pipe.read_all()
        return list(self._lines[pid].lines) if pid in self._lines else []

    def catch_up(self, pid: int) -> None:
        """Say everything that the process has written by now; a prompt stays unfinished where it can be shown so."""
        for pipe in self._pipes.get(pid, []):
            pipe.catch_up()
        self._tracebacks.emit_all()

    def knows(self, pid: int) -> bool:
        """Whether the pipes of this process have been seen."""
        return pid in self._lines

    def finish(self) -> None:
        """Say what has been written and not been read yet."""
        for pipes in self._pipes.values():
            for pipe in pipes:
                pipe.read_all()
        self._tracebacks.emit_all()

    @property
    def due(self) -> float:
        """When `emit_due` has something to do (monotonic); infinity when there is nothing."""
        return self._tracebacks.due

    def emit_due(self) -> None:
        """Say the tracebacks that are complete."""
        self._tracebacks.emit_due(self._clock())

    def _server_says(self, pid: int) -> Say:
        def say(line: str) -> None:
            if line.startswith(ACCESS):
                self._log.output(Origin("Server", pid, ACCESS_STREAM), [line.removeprefix(ACCESS)])
            else:
                self._log.event(*from_server(line))

        return say

    def _application_line(self, origin: Origin, line: LabelledLine, server_log: ServerLog, before: str) -> None:
        self._lines[origin.pid].add(readable(last_state(line.text)))
        if line.access:
            origin = origin._replace(stream=ACCESS_STREAM)
        if not line.label and not line.continues:
            # An access line, say: it stands behind the traceback of its request.
            self._tracebacks.emit_complete(lambda other: isinstance(other, Origin) and other.pid == origin.pid)
        say = functools.partial(server_log.output, origin, before=before)
        self._tracebacks.add(origin, line.text, say, self._clock(), more=line.more, continues=line.continues)

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
        while len(self._ended) > ENDED:
            oldest = self._ended.popleft()
            # The number may be a younger process's by now.
            if oldest not in self._pipes:
                self._lines.pop(oldest, None)
