"""Finds the line of each key in a TOML document, because the parser of the standard library does not report it. Pure.

It is exact without a parser of its own. A statement of TOML (a key with its value, or the header of a table) begins on
a new line and may have several lines. The lines of one statement are a valid document. A part of them is not valid,
because a string or an array in it is not closed. So the lines are added one by one until the parser accepts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]
"""The keys from the root of the document to a value; a number is the place in an array."""

Parse = Callable[[str], Mapping[str, Any]]
"""The parser: `tomllib.loads`. It raises `ValueError` for an invalid document."""


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of the value at `path`, or of the nearest value or table that contains it; 0 if there is none."""
    return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), 0)


def lines_of(content: str, parse: Parse) -> dict[Path, int]:
    """The line, from 1 on, in which each key and each table of a valid document begins."""
    lines: dict[Path, int] = {}
    tables = _Tables()
    for number, source, parsed in _statements(content, parse):
        if source.lstrip().startswith("["):
            table = tables.enter(parsed)
            lines.setdefault(table, number)
            if isinstance(table[-1], int):
                # The array itself begins with its first element.
                lines.setdefault(table[:-1], number)
        else:
            for path in _paths(parsed):
                lines.setdefault((*tables.current, *path), number)
    return lines


def _statements(content: str, parse: Parse) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """(first line, source, parsed content) of each statement."""
    first, source = 1, ""
    for number, line in enumerate(content.replace("\r\n", "\n").split("\n"), 1):
        source += line + "\n"
        try:
            parsed = parse(source)
        except ValueError:
            # The statement continues in the next line.
            continue
        if parsed:
            yield first, source, parsed
        first, source = number + 1, ""


def _paths(table: Mapping[str, Any]) -> Iterator[Path]:
    """The path of each value of a table, and of each table in it; arrays are not entered."""
    for key, value in table.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *path) for path in _paths(value))


class _Tables:
    """The table that the last header has named. Knows how many elements each array of tables has by now."""

    def __init__(self) -> None:
        self.current: Path = ()
        self._counts: dict[Path, int] = {}

    def enter(self, header: Mapping[str, Any]) -> Path:
        """Enter the table of a header, as it is parsed: `[a.b]` is {"a": {"b": {}}}, `[[a]]` is {"a": [{}]}."""
        path: Path = ()
        content: Any = header
        while content:
            (key, content), *_ = content.items()
            path = (*path, key)
            if isinstance(content, list):
                self._counts[path] = self._counts.get(path, 0) + 1
                content = {}
            if path in self._counts:
                # `[a.b]` below `[[a]]` is a table of the last element of the array (TOML 1.0, "Array of Tables").
                path = (*path, self._counts[path] - 1)
        self.current = path
        return path
