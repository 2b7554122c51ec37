"""Reads the files of settings: appsrv.toml and `[tool.appsrv]` of pyproject.toml, and the line of each key in them.

Knows the two files and TOML, not the settings that they contain.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from appsrv.errors import SettingsError
from appsrv.settings import toml_lines
from appsrv.settings.origins import SettingOrigin

# The key of appsrv.toml for the array of applications, `[[apps]]`.
APPS = "apps"

PROJECT, OWN = "pyproject.toml", "appsrv.toml"
_TABLE_OF_PROJECT = ("tool", "appsrv")
_LINE = re.compile(r"\bat line (\d+)")


def files_of(directory: Path) -> list[Path]:
    """The files of a directory that may have settings; the later one wins."""
    return [directory / PROJECT, directory / OWN]


def tables(directory: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The tables of settings in the files of a directory, each with the path of its file; the later one wins."""
    return [(file, table_of(file)) for file in files_of(directory)]


def table_of(file: Path) -> dict[str, Any]:
    """The table of settings in one of these files; empty if there is none. Raises `SettingsError`."""
    content = read_toml(file)
    return _table(content, file) if file.name == PROJECT else content


def read_toml(file: Path) -> dict[str, Any]:
    """The content of a TOML file; empty if there is no such file. Raises `SettingsError`."""
    content = _text(file)
    # Most projects have no such file: then the parser is not imported.
    return _parsed(file, content) if content else {}


def located(origin: SettingOrigin) -> SettingOrigin:
    """The origin with its line, if it is a key of a file."""
    if origin.kind != "file":
        return origin
    return replace(origin, line=line_of(Path(origin.file), origin.path))


def place(file: Path, *path: str | int) -> str:
    """`FILE:LINE` of the key at this path of the table of settings; only the file if the line cannot be found."""
    return str(located(SettingOrigin("file", file=str(file), path=path)))


def line_of(file: Path, path: tuple[str | int, ...]) -> int:
    """The line of the key at this path of the table of settings; 0 if it cannot be found."""
    try:
        lines = _lines(_text(file))
    except (SettingsError, ValueError, RecursionError):
        # The file has changed since it was read.
        return 0
    return toml_lines.line_of(lines, (*(_TABLE_OF_PROJECT if file.name == PROJECT else ()), *path))


@functools.lru_cache(maxsize=4)
def _lines(content: str) -> Mapping[toml_lines.Path, int]:
    return toml_lines.lines_of(content, _parser())


def _text(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():
            # Opening a FIFO would block until a process opens it for writing (fifo(7)).
            raise SettingsError(f"{file} cannot be read: it is not a file", file=str(file))
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}", file=str(file)) from None


def _parser() -> Callable[[str], dict[str, Any]]:
    # Python 3.10 has no `tomllib`.
    parse: Callable[[str], dict[str, Any]]
    parse = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads
    return parse


def _parsed(file: Path, content: str) -> dict[str, Any]:
    try:
        return _parser()(content)
    except (ValueError, RecursionError) as error:
        found = _LINE.search(str(error))
        raise SettingsError(
            f"{file} is not valid TOML: {error}{_hint(content)}", file=str(file), line=int(found[1]) if found else 0
        ) from None


def _hint(content: str) -> str:
    """A hint for several `[apps]` tables in single brackets: the parser reports only a duplicate table."""
    several = content.count(f"[{APPS}]") - content.count(f"[[{APPS}]]") > 1
    return f"; each application begins with [[{APPS}]], in double brackets" if several else ""


def _table(content: dict[str, Any], file: Path) -> dict[str, Any]:
    tool = content.get("tool", {})
    table = tool.get("appsrv", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: tool.appsrv has to be a table: [tool.appsrv]", file=str(file))
    return table
