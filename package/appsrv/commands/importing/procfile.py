"""Reads a Procfile, and the command of one of its process types. Reads files by `read` only, and runs nothing."""

from __future__ import annotations

import re
from dataclasses import replace

from appsrv.commands.importing.command_line import any_command, find_server, outcome_of, starts_server
from appsrv.commands.importing.masking import masked
from appsrv.commands.importing.outcome import Converted, Outcome, Remark
from appsrv.commands.importing.programs import ANOTHER, Place, chosen

_PROCESS = re.compile(r"([\w.-]+)\s*:\s*(\S.*)")


def from_procfile(text: str, place: Place) -> Outcome:
    """The outcome for one process type of a Procfile: `web`, or else the first with a server."""
    lines = [(number, match[1], match[2].strip()) for number, line in enumerate(text.splitlines(), 1)
             if (match := _PROCESS.fullmatch(line.strip())) and not line.lstrip().startswith("#")]  # fmt: skip
    wanted = chosen({name: command for _, name, command in lines}, place, prefer="web")
    parts: list[Converted] = []
    outcome = Outcome("")
    for number, name, command in lines:
        shown = f"{name}: {command}"
        if name == wanted:
            found = find_server(command) or any_command(command)
            outcome = outcome_of(found, shown, f"line {number}", place.directory, place.read)
            parts += outcome.entries
        else:
            parts.append(Converted(f"line {number}", masked(shown), (Remark(_other_process(name, command)),)))
    return replace(outcome, entries=tuple(parts))


def _other_process(name: str, command: str) -> str:
    if starts_server(command):
        return ANOTHER.format(name=name)
    if name == "release":
        return "Run it before appsrv restart-app."
    return "appsrv starts no other programs: it stays where it is, or gets a unit of systemd."
