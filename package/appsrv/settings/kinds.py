"""Kinds of values: a parser, and a function that makes relative paths in the parsed value absolute.

A path is relative to the directory of the file that names it, or to the current directory of a flag or variable. The
parser does not know that directory, so `sources` applies the second function. Kinds know no setting.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appsrv.settings import parsers

NO_FILE = os.devnull
"""The value of `pid_file` and `log_file` for no file."""


def _unchanged(value: Any, _base: Path) -> object:
    return value


@dataclass(frozen=True)
class Kind:
    """`parse` parses the given value; `absolute` resolves relative paths in its result against a directory."""

    parse: parsers.Parser
    absolute: Callable[[Any, Path], object] = _unchanged


def _path(value: object) -> str:
    """A path; `~` is expanded to the home directory."""
    return os.path.expanduser(parsers.text(value))


def _file_or_none(value: object) -> str:
    plain = parsers.text(value)
    return NO_FILE if plain.lower() == "none" else _path(plain)


def _log_target(value: object) -> str:
    plain = parsers.text(value)
    return plain.lower() if plain.lower() in ("-", "off") else _path(plain)


def _absolute_path(value: str, base: Path) -> str:
    return os.path.abspath(base / value)


def _absolute_log_target(value: str, base: Path) -> str:
    return value if value in ("-", "off") else _absolute_path(value, base)


def _absolute_paths(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    return tuple(_absolute_path(path, base) for path in value)


def _absolute_mounts(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    pairs = (mount.split("=", 1) for mount in value)
    return tuple(f"{prefix}={_absolute_path(directory, base)}" for prefix, directory in pairs)


PATH = Kind(_path, _absolute_path)
"""A file or directory."""

FILE_OR_NONE = Kind(_file_or_none, _absolute_path)
"""A file; `none` is parsed as NO_FILE."""

LOG_TARGET = Kind(_log_target, _absolute_log_target)
"""A file, `-` for the server log, or `off`."""

PATHS = Kind(parsers.listing(_path), _absolute_paths)
"""Several files or directories."""

MOUNTS = Kind(parsers.listing(parsers.mount), _absolute_mounts)
"""Several URL prefixes, each with its directory."""
