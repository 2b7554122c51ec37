"""Writes appsrv.toml from an outcome, and has appsrv's own loader of settings check it. Pure."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from appsrv.commands.importing.outcome import ROW, Assigned, Converted, Item, Outcome, Remark, assigned, settled
from appsrv.errors import SettingsError
from appsrv.settings import sources
from appsrv.settings.table import Settings
from appsrv.system.words import in_line

FILE = "appsrv.toml"
_COLUMNS = 100
_LONGEST_SHOWN = 160


def render(outcome: Outcome, title: str, directory: Path) -> str:
    """The text of appsrv.toml, which belongs into `directory`. Raises `SettingsError` if it cannot be made valid."""
    entries = _consistent([_valid(entry) for entry in settled(outcome.entries)], directory)
    text = "\n".join([_head(title, directory), *(_paragraph(entry) for entry in entries), *_tail(outcome)])
    _check(text, directory / FILE)
    return text


# -- checks ------------------------------------------------------------------------------------------------


def _valid(entry: Converted) -> Converted:
    """The entry with values that appsrv does not accept made remarks."""

    def checked(item: Item) -> Item:
        if not isinstance(item, Assigned):
            return item
        try:
            ROW[item.key].kind.parse(item.value)
        except ValueError as error:
            return Remark(f"Not taken over: {item.key} = {_value(item.value)}, {error}.")
        return item

    return replace(entry, items=tuple(checked(item) for item in entry.items))


def _consistent(entries: list[Converted], directory: Path) -> list[Converted]:
    """The entries without settings that contradict others; the last one concerned becomes a remark.

    Raises `SettingsError` where that does not help.
    """
    while (problem := _problem(assigned(entries), directory)) is not None:
        concerned = [item for item in assigned(entries) if item.key in problem.names]
        if not concerned:
            raise problem
        remark = Remark(f"Left out: {concerned[-1].key} = {_value(concerned[-1].value)}, because {problem}.")
        entries = [replace(entry, items=tuple(remark if one is concerned[-1] else one for one in entry.items))
                   for entry in entries]  # fmt: skip
    return entries


def _problem(settings: Sequence[Assigned], directory: Path) -> SettingsError | None:
    values = {one.key: ROW[one.key].kind.absolute(ROW[one.key].kind.parse(one.value), directory) for one in settings}
    try:
        sources.overlaid(Settings(), values)
    except SettingsError as error:
        return error
    return None


def _check(text: str, file: Path) -> None:
    """Read the text as `appsrv start` would. Raises `SettingsError`."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        sources.overlaid(Settings(), sources.values_of(sources.file_layer(file, tomllib.loads(text))))
    except ValueError as error:
        raise SettingsError(f"the settings that are imported are no valid TOML: {error}") from None


# -- text --------------------------------------------------------------------------------------------------


def _head(title: str, directory: Path) -> str:
    return _comment(
        f"Made by `{title}`. It belongs into {directory} as {FILE}; relative paths in it are relative to that "
        "directory. A comment with the line of the source stands above what became of it. Read the comments, then "
        "delete them."
    )


def _paragraph(entry: Converted) -> str:
    shown = in_line(entry.shown)
    if len(shown) > _LONGEST_SHOWN:
        shown = shown[: _LONGEST_SHOWN - 3] + "..."
    lines = [f"# {entry.place}: {shown}" if entry.place else f"# {shown}"] if shown else []
    for item in entry.items:
        if isinstance(item, Assigned):
            lines.append(f"{item.key} = {_value(item.value)}")
        elif isinstance(item, Remark):
            lines.append(_comment(item.text, indent="  " if shown else ""))
    return "\n".join(["", *lines])


def _tail(outcome: Outcome) -> list[str]:
    if not outcome.defaults:
        return [""]
    head = f"Defaults of {outcome.server} that appsrv does not share, where the source leaves them open:"
    return ["", _comment(head), *(_comment(line, indent="  ") for line in outcome.defaults), ""]


def _comment(text: str, indent: str = "") -> str:
    prefix = f"# {indent}"
    lines = textwrap.wrap(in_line(text), _COLUMNS - len(prefix), break_long_words=False, break_on_hyphens=False)
    return "\n".join(prefix + line for line in lines)


def _value(value: object) -> str:
    """A value in TOML. A JSON text is a TOML text, but for the character DEL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value)
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
