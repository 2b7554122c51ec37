"""Reads a command line, or a script that has one. Reads files by `read` only, and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from appsrv.commands.importing.command_line import find_server, outcome_of, starts_server
from appsrv.commands.importing.masking import masked
from appsrv.commands.importing.outcome import Converted, Outcome, Remark
from appsrv.commands.importing.programs import Place
from appsrv.errors import SettingsError


def from_command(text: str, place: Place) -> Outcome:
    """The outcome for a command line, or for a script that has one."""
    lines = script_lines(text)
    starts: Sequence[tuple[int, str]] = [one for one in lines if starts_server(one[1])]
    if not starts:
        raise SettingsError(
            f"{place.name} starts no gunicorn, uWSGI or Passenger: name the file of its settings, such as "
            "gunicorn.conf.py, uwsgi.ini, Passengerfile.json, Procfile"
        )
    number, command = starts[-1]
    entries: list[Converted] = []
    outcome = Outcome("")
    for one, line in lines:
        server = find_server(line) if one == number else None
        if server is None:
            note = Remark("Not read: appsrv import executes no code.")
            entries.append(Converted(f"line {one}", masked(line), (note,)))
            continue
        where = f"line {one}" if len(lines) > 1 else ""
        outcome = outcome_of(server, command, where, place.directory, place.read)
        entries += outcome.entries
    return replace(outcome, entries=tuple(entries))


def script_lines(text: str) -> list[tuple[int, str]]:
    """The commands of a script with the numbers of their lines; a backslash at the end of a line continues it."""
    found: list[tuple[int, str]] = []
    pending = ""
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if pending else number
        if line.rstrip().endswith("\\"):
            pending += line.rstrip()[:-1].strip() + " "
            continue
        whole, pending = (pending + line.strip()).strip(), ""
        if whole and not whole.startswith("#") and not whole.startswith("set "):
            found.append((first, whole))
    return found
