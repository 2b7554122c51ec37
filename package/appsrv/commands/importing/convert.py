"""`appsrv import`: finds out what kind of file there is, has it read, and makes appsrv.toml of it.

It reads files by `read` only, executes nothing and writes nothing.
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path

from appsrv.commands.importing import (
    gunicorn,
    gunicorn_file,
    page,
    passenger,
    procfile,
    script,
    supervisord,
    systemd_unit,
    uwsgi,
)
from appsrv.commands.importing.command_line import starts_server
from appsrv.commands.importing.directives import ReadFile
from appsrv.commands.importing.gunicorn_options import HOOKS, RULES
from appsrv.commands.importing.outcome import Outcome
from appsrv.commands.importing.programs import Place
from appsrv.errors import SettingsError

KINDS = ("gunicorn", "uwsgi", "passenger", "procfile", "supervisord", "systemd")

_NAMES = (
    (r"gunicorn.*\.py|.*gunicorn.*\.conf\.py", "gunicorn"),
    (r"Passengerfile.*\.json", "passenger"),
    (r"Procfile(\..+)?", "procfile"),
    (r".+\.service", "systemd"),
)
_UWSGI_OTHER = "is a configuration of uWSGI in {form}, which appsrv import does not read: write it as an .ini file"


@dataclass(frozen=True)
class SettingsFile:
    """The text of an appsrv.toml, and the directory that it belongs into."""

    text: str
    directory: Path


def from_command_line(text: str, directory: Path, read: ReadFile, title: str) -> SettingsFile:
    """appsrv.toml for a command line, as it is typed in `directory`; options alone are gunicorn's."""
    place = Place("the command line", directory, read)
    text = f"gunicorn {text}" if text.lstrip().startswith("-") else text
    return _rendered(script.from_command(text, place), directory, title)


def from_file(path: Path, text: str, read: ReadFile, *, title: str, kind: str | None = None,
              program: str | None = None) -> SettingsFile:  # fmt: skip
    """appsrv.toml for a file with this content. Raises `SettingsError` for one that is none of the known kinds."""
    directory = path.parent
    place = Place(path.name, directory, read, program)
    found = kind or kind_of(path.name, text)
    if program is not None and found not in ("procfile", "supervisord", "uwsgi"):
        raise SettingsError(f"{path.name} has no programs to choose from: leave out --program")
    return _rendered(_outcome(found, path, text, place), directory, title)


def _outcome(kind: str, path: Path, text: str, place: Place) -> Outcome:
    if kind == "gunicorn":
        if _is_command(path.name, text):
            return script.from_command(text, place)
        return gunicorn.from_file(text, path)
    if kind == "uwsgi":
        _refuse_other_forms(path.name, text)
        return uwsgi.from_file(text, path, *([place.program] if place.program else []))
    if kind == "passenger":
        return passenger.from_file(text, path.name)
    if kind == "procfile":
        return procfile.from_procfile(text, place)
    if kind == "supervisord":
        return supervisord.from_supervisord(text, place)
    if kind == "systemd":
        return systemd_unit.from_systemd(text, place)
    return script.from_command(text, place)


def _rendered(outcome: Outcome, directory: Path, title: str) -> SettingsFile:
    place = Path(os.path.normpath(directory / (outcome.directory or "")))
    if not outcome.entries:
        raise SettingsError("nothing is set there: there is nothing to import, and appsrv start needs no file")
    return SettingsFile(page.render(outcome, title, place), place)


# -- the kind of a file ------------------------------------------------------------------------------------


def kind_of(name: str, text: str) -> str:
    """The kind of a file, by its name and content; `command` for one with a command line. Raises `SettingsError`."""
    for pattern, kind in _NAMES:
        if re.fullmatch(pattern, name):
            return kind
    _refuse_other_forms(name, text)
    if re.search(r"^\s*\[(fcgi-)?program:", text, re.MULTILINE):
        return "supervisord"
    if re.search(r"^\s*\[uwsgi\]", text, re.MULTILINE):
        return "uwsgi"
    if re.search(r"^\s*\[Service\]", text, re.MULTILINE) and "ExecStart" in text:
        return "systemd"
    if text.lstrip().startswith("{"):
        return "passenger"
    return _kind_of_lines(name, text)


def _kind_of_lines(name: str, text: str) -> str:
    if name.endswith(".py"):
        # Raises an error that names the line of a mistake.
        gunicorn_file.parse(text, name)
    if _sets_gunicorn(text):
        return "gunicorn"
    if re.search(r"^web:\s*\S", text, re.MULTILINE):
        return "procfile"
    if _has_server(text):
        return "command"
    raise SettingsError(
        f"{name} is none of the files that appsrv import knows (gunicorn.conf.py, uwsgi.ini, Passengerfile.json, "
        f"Procfile, supervisord.conf, a unit of systemd): name its kind, --from {'|'.join(KINDS)}"
    )


def _has_server(text: str) -> bool:
    return any(starts_server(line) for _, line in script.script_lines(text))


def _sets_gunicorn(text: str) -> bool:
    try:
        body = gunicorn_file.parse(text, "").body
    except SettingsError:
        return False
    names = {getattr(target, "id", "") for node in body if isinstance(node, ast.Assign) for target in node.targets}
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    # Many programs have a name `config`.
    return bool(names & (RULES.keys() - {"config"}) or functions & HOOKS)


def _is_command(name: str, text: str) -> bool:
    """Whether a file for gunicorn holds a command line instead of Python."""
    if name.endswith(".py"):
        return False
    return not _sets_gunicorn(text) and _has_server(text)


def _refuse_other_forms(name: str, text: str) -> None:
    start = text.lstrip()
    suffix = os.path.splitext(name)[1].lower()
    form = None
    if suffix == ".xml" or start.startswith("<"):
        form = "XML" if "<uwsgi" in text else None
    elif suffix in (".yml", ".yaml") or re.search(r"^uwsgi:\s*$", text, re.MULTILINE):
        form = "YAML" if re.search(r"^uwsgi:", text, re.MULTILINE) else None
    elif start.startswith("{") and re.match(r'\{\s*"uwsgi"\s*:', start):
        form = "JSON"
    if form is not None:
        raise SettingsError(f"{name} {_UWSGI_OTHER.format(form=form)}")
