"""Shared by the files that start several programs: the choice of a program, and options in sections. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from appsrv.commands.importing.command_line import starts_server
from appsrv.commands.importing.directives import ReadFile
from appsrv.errors import SettingsError

ANOTHER = (
    "Another server: appsrv import --program {name}. Two applications are two instances, each in its own directory, or "
    "two entries of [[apps]] in one (docs/hosting.md)."
)


@dataclass(frozen=True)
class Place:
    """The file that is read. `program`: the one that the user has asked for."""

    name: str
    directory: Path
    read: ReadFile
    program: str | None = None


def chosen(commands: Mapping[str, str], place: Place, prefer: str = "") -> str:
    """The program that is imported. Raises `SettingsError`."""
    names = ", ".join(commands)
    if place.program is not None:
        if place.program not in commands:
            raise SettingsError(f"{place.name} has no program {place.program}: it has {names or 'none'}")
        return place.program
    if prefer in commands:
        return prefer
    if not commands:
        raise SettingsError(f"{place.name} has no program in it: name the file that starts the server")
    served = [name for name, command in commands.items() if starts_server(command)]
    if not served:
        raise SettingsError(
            f"{place.name} starts no server that appsrv import knows (programs: {names}): name one by --program"
        )
    return served[0]


@dataclass(frozen=True)
class SectionOption:
    """One option of a file in sections, with the number of its line."""

    number: int
    section: str
    key: str
    value: str


def options_of(text: str, comment: str, *, continued: bool) -> Iterator[SectionOption]:
    """The options of a file in sections. `continued`: a line that begins with whitespace continues the one above."""
    section, pending = "", None
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(rf"\s{comment}.*", "", raw) if comment else raw
        if not line.strip() or line.strip()[0] in "#;":
            continue
        goes_on = pending is not None and (
            (continued and line[0] in " \t") or (not continued and pending.value.endswith("\\"))
        )
        if pending is not None and goes_on:
            value = pending.value if continued else pending.value[:-1]
            pending = replace(pending, value=f"{value.rstrip()} {line.strip()}".strip())
            continue
        if pending is not None:
            yield pending
            pending = None
        if line.lstrip().startswith("["):
            section = line.strip()[1:].partition("]")[0].strip()
            continue
        key, _, value = line.partition("=")
        pending = SectionOption(number, section, key.strip(), value.strip())
    if pending is not None:
        yield pending
