"""Tracebacks in one piece: lines of one origin that are written one by one, while others write, too.

What begins as a traceback, or is known to have more lines, is held back with everything of the same origin that
follows, until that origin is quiet for `QUIET` seconds, or for `LONGEST` seconds or `MOST` lines at most. Pure: it is
told the time. What is said at once is one event: a traceback, what was printed with one call, or a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

QUIET, LONGEST, MOST = 0.05, 0.5, 2000
FATAL = "Fatal Python error:"
BEGINNINGS = ("Traceback (most recent call last):", FATAL, "  + Exception Group Traceback (most recent")
JOINTS = ("During handling of the above exception", "The above exception was the direct cause")

# The last line of an exception group.
_GROUP_END = re.compile(r" {4}\+-+")

Say = Callable[[Sequence[str]], None]


class _Block:
    def __init__(self, say: Say, now: float) -> None:
        self.say = say
        self.lines: list[str] = []
        self.continuing: list[bool] = []
        self.quiet_at = now + QUIET
        self.over_at = now + LONGEST

    @property
    def due(self) -> float:
        return min(self.quiet_at, self.over_at)

    @property
    def looks_whole(self) -> bool:
        """Whether it ends as tracebacks do, with the line that names the exception."""
        last = self.lines[-1]
        return bool(last) and not last[0].isspace() and not last.startswith((*BEGINNINGS, *JOINTS))


class Tracebacks:
    """Says each line at once, or together with the traceback it belongs to. An origin is who wrote it, for what."""

    def __init__(self) -> None:
        self._blocks: dict[Hashable, _Block] = {}

    def add(
        self, origin: Hashable, line: str, say: Say, now: float, *, more: bool = False, continues: bool = False
    ) -> None:
        """One more line; `say` is what to do with it, now or later. `more`: further lines belong to it.

        `continues`: it belongs to the line before.
        """
        block = self._blocks.get(origin)
        if block is None:
            if not more and not line.startswith(BEGINNINGS):
                say([line])
                return
            block = self._blocks[origin] = _Block(say, now)
        block.lines.append(line)
        block.continuing.append(continues)
        block.quiet_at = now + QUIET
        if len(block.lines) >= MOST:
            self._say(origin)

    def holds(self, origin: Hashable) -> bool:
        """Whether lines of this origin wait."""
        return origin in self._blocks

    def say_whole(self, is_of: Callable[[Hashable], bool]) -> None:
        """Say those of the origins in question that look whole: what comes next was written after them."""
        for origin in [origin for origin, block in self._blocks.items() if is_of(origin) and block.looks_whole]:
            self._say(origin)

    @property
    def due(self) -> float:
        """When `say_due` has something to do; infinity when there is nothing."""
        return min((block.due for block in self._blocks.values()), default=float("inf"))

    def say_due(self, now: float) -> None:
        """Say what is complete by now."""
        for origin in [origin for origin, block in self._blocks.items() if block.due <= now]:
            self._say(origin)

    def say_all(self) -> None:
        """Say everything."""
        for origin in list(self._blocks):
            self._say(origin)

    def _say(self, origin: Hashable) -> None:
        block = self._blocks.pop(origin)
        for event in events(block.lines, block.continuing):
            block.say(event)


def events(lines: Sequence[str], continuing: Sequence[bool]) -> list[list[str]]:
    """The lines of one origin, each traceback in one piece; a line that is `continuing` belongs to the one before."""
    found: list[list[str]] = []
    inside = fatal = False
    for line, next_line, continues in zip(lines, [*lines[1:], ""], continuing, strict=True):
        # Between an exception and the one that it caused.
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
