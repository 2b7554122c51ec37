"""Reads a unit of systemd, and the command in its ExecStart. Reads files by `read` only, and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from appsrv.commands.importing import shell_words
from appsrv.commands.importing.command_line import any_command, find_server, outcome_of
from appsrv.commands.importing.counterparts import environment
from appsrv.commands.importing.masking import masked
from appsrv.commands.importing.outcome import Converted, Outcome, Remark
from appsrv.commands.importing.programs import Place, options_of
from appsrv.errors import SettingsError

_UNIT = "It stays in the unit; `appsrv config systemd` prints a whole one."
_SYSTEMD: Mapping[str, str] = {
    "Type": "Type=notify: appsrv tells systemd when it serves.",
    "ExecReload": "ExecReload=appsrv restart-app, as `appsrv config systemd` prints it.",
    "ExecStop": "Leave it out: TERM stops appsrv.",
    "PIDFile": "Leave it out: with Type=notify none is needed.",
    "KillMode": "KillMode=mixed: appsrv stops its own processes in order.",
    "TimeoutStopSec": f"{_UNIT} It has to be above stop_timeout (30 s).",
    "KillSignal": "Leave it out: TERM stops appsrv.",
    "NotifyAccess": "Leave it out: the watchdog itself tells systemd.",
    "EnvironmentFile": f"{_UNIT} Or copy that file to .env beside the application (mode 600).",
}


def from_systemd(text: str, place: Place) -> Outcome:
    """The outcome for the ExecStart of a unit."""
    options = list(options_of(text, "", continued=False))
    start = [one for one in options if one.section == "Service" and one.key == "ExecStart" and one.value]
    if not start:
        raise SettingsError(f"{place.name} has no ExecStart in [Service]: name the unit of the service")
    directory = next((one.value.lstrip("-~") for one in options if one.key == "WorkingDirectory"), "") or None
    entries: list[Converted] = []
    inner: Outcome | None = None
    for one in options:
        where, shown = f"line {one.number}", f"{one.key}={one.value}"
        if one is start[-1]:
            command = _without_specifiers(one.value.lstrip("-@:+!"), place.name)
            found = find_server(command) or any_command(command)
            base = place.directory / (directory or "")
            inner = outcome_of(found, shown, where, base, place.read)
            entries += inner.entries
        elif one.key == "Environment":
            words = [word for command in shell_words.split(one.value) for word in command]
            pairs = {name: value for name, _, value in (word.partition("=") for word in words)}
            remarks = environment(pairs, f"{place.name}, {where}")
            entries.append(Converted(where, f"Environment=({', '.join(pairs)})", tuple(remarks)))
        elif one.key == "WorkingDirectory":
            note = Remark(f"appsrv.toml belongs into that directory, {one.value}. It stays in the unit, too.")
            entries.append(Converted(where, masked(shown), (note,)))
        else:
            entries.append(Converted(where, masked(shown), (Remark(_SYSTEMD.get(one.key, _UNIT)),)))
    if inner is None:
        return Outcome("", tuple(entries), directory)
    return replace(inner, entries=tuple(entries), directory=inner.directory or directory)


def _without_specifiers(command: str, unit: str) -> str:
    """The command with the specifiers for the unit's name filled in; other specifiers stay (systemd.unit(5))."""
    stem = unit.removesuffix(".service")
    letters = {"n": unit, "N": stem, "p": stem.partition("@")[0], "%": "%"}
    return re.sub(r"%([nNp%])", lambda found: letters[found[1]], command)
