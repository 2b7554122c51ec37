"""Groups the lines of a traceback, which a process writes one by one while other processes write, too. Pure.

A line that starts a traceback, or that is known to have more lines, is held back together with every later line of the
same origin. The lines are emitted when the origin has written nothing for `QUIET_SECONDS`, at the latest after
`MAX_HELD_SECONDS` or `MAX_HELD_LINES`. Each emitted event is one traceback, the text of one print call, or one line.
The caller passes the time (`time.monotonic()`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

QUIET_SECONDS = 0.05
"""An origin that has written nothing for so long has written its traceback to the end."""
MAX_HELD_SECONDS, MAX_HELD_LINES = 0.5, 2000
"""Limits of the time and the lines that are held back of one origin, so that one that never stops is logged, too."""
FATAL = "Fatal Python error:"
BEGINNINGS = ("Traceback (most recent call last):", FATAL, "  + Exception Group Traceback (most recent")
JOINTS = ("During handling of the above exception", "The above exception was the direct cause")

# The last line of an exception group.
_GROUP_END = re.compile(r" {4}\+-+")

Emit = Callable[[Sequence[str]], None]


class _Block:
    def __init__(self, emit: Emit, now: float) -> None:
        self.emit = emit
        self.lines: list[str] = []
        self.continuing: list[bool] = []
        self.quiet_at = now + QUIET_SECONDS
        self.deadline = now + MAX_HELD_SECONDS

    @property
    def due(self) -> float:
        return min(self.quiet_at, self.deadline)

    @property
    def looks_complete(self) -> bool:
        """Whether the last line can be the end of a traceback, which names the exception."""
        last = self.lines[-1]
        return bool(last) and not last[0].isspace() and not last.startswith((*BEGINNINGS, *JOINTS))


class Tracebacks:
    """Emits each line at once, or together with its traceback. An origin is a stream of a process, for one request."""

    def __init__(self) -> None:
        self._blocks: dict[Hashable, _Block] = {}

    def add(
        self, origin: Hashable, line: str, emit: Emit, now: float, *, more: bool = False, continues: bool = False
    ) -> None:
        """Add a line. `emit` is called with the event that it becomes part of, now or later.

        `more`: further lines of the same print call follow. `continues`: the line belongs to the one before it.
        """
        block = self._blocks.get(origin)
        if block is None:
            if not more and not line.startswith(BEGINNINGS):
                emit([line])
                return
            block = self._blocks[origin] = _Block(emit, now)
        block.lines.append(line)
        block.continuing.append(continues)
        block.quiet_at = now + QUIET_SECONDS
        if len(block.lines) >= MAX_HELD_LINES:
            self._emit(origin)

    def holds(self, origin: Hashable) -> bool:
        """Whether lines of this origin are held back."""
        return origin in self._blocks

    def emit_complete(self, is_of: Callable[[Hashable], bool]) -> None:
        """Emit the tracebacks that look complete of the origins for which `is_of` is true.

        The collector calls this before it adds a line of the same process that was written after them, such as the
        access log's line of the request: otherwise that line would be logged first.
        """
        for origin in [origin for origin, block in self._blocks.items() if is_of(origin) and block.looks_complete]:
            self._emit(origin)

    @property
    def due(self) -> float:
        """The time when `emit_due` has to be called next; infinity when no line is held back."""
        return min((block.due for block in self._blocks.values()), default=float("inf"))

    def emit_due(self, now: float) -> None:
        """Emit the events whose waiting time is over at `now`."""
        for origin in [origin for origin, block in self._blocks.items() if block.due <= now]:
            self._emit(origin)

    def emit_all(self) -> None:
        """Emit every line that is held back."""
        for origin in list(self._blocks):
            self._emit(origin)

    def _emit(self, origin: Hashable) -> None:
        block = self._blocks.pop(origin)
        for event in events(block.lines, block.continuing):
            block.emit(event)


def events(lines: Sequence[str], continuing: Sequence[bool]) -> list[list[str]]:
    """The lines of one origin as events: each traceback is one. A line that is `continuing` belongs to the one before.

    A blank line ends a traceback unless the next line joins two of them ("During handling of the above exception ...").
    After `FATAL` every line belongs to the report that faulthandler writes, since the process ends with it.
    """
    found: list[list[str]] = []
    inside = fatal = False
    for line, next_line, continues in zip(lines, [*lines[1:], ""], continuing, strict=True):
        # The blank line between an exception and the one that was raised while it was handled.
        inside = inside or (bool(found) and not line and next_line.startswith(JOINTS))
        if found and (continues or inside or fatal):
            found[-1].append(line)
        else:
            found.append([line])
        fatal = fatal or line.startswith(FATAL)
        if line.startswith(BEGINNINGS):
            inside = True
        elif inside and not line.startswith(JOINTS):
            inside = not line or (line[0].isspace() and not _GROUP_END.fullmatch(line))
    return found
