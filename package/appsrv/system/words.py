"""Formats values for people: durations, sizes, dates, lists of names, and text without control characters.

Pure. Knows no settings, no processes and no reports.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def duration(seconds: float) -> str:
    """`1d 2h 3m 4s`, without leading units that are 0."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts)


def memory(count: int) -> str:
    """`99M`: a number of bytes as whole mebibytes."""
    return f"{round(count / (1 << 20))}M"


def ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"


def printable(text: object) -> str:
    """The text without control characters, by which a message of an application could control the terminal."""
    return "".join(char for char in str(text) if char in "\n\t" or char.isprintable())


def in_line(text: object) -> str:
    """The same for a name in one line: line feeds and tabs are escaped."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b and c`. Of more than `most` names, the rest is counted: `a, b, c and 4 more` (`most` is 3)."""
    shown = [in_line(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def date(wall_time: float) -> str:
    """`2024-06-21 13:50:09 +0000`, local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(wall_time))


def wants_colour(environ: Mapping[str, str], is_terminal: bool) -> bool:
    """Whether to write in colour. NO_COLOR overrides FORCE_COLOR (no-color.org); without either, terminals have colour.
    """
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (is_terminal and environ.get("TERM") != "dumb")
