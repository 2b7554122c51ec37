"""Finds the server in a command line, such as that of a Procfile or a unit, and has its options read.

It reads files by `read` only, and runs nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from appsrv.commands.importing import gunicorn, passenger, shell_words, uwsgi
from appsrv.commands.importing.counterparts import environment
from appsrv.commands.importing.directives import ReadFile
from appsrv.commands.importing.masking import masked
from appsrv.commands.importing.outcome import Assigned, Converted, Item, Outcome, Remark
from appsrv.errors import SettingsError

_SERVERS = {
    "gunicorn": "gunicorn", "gunicorn3": "gunicorn", "uwsgi": "uwsgi", "pyuwsgi": "uwsgi", "passenger": "passenger",
}
# Servers whose options are not read: a start_command can start them.
_OTHER_SERVERS = frozenset(
    {"uvicorn", "daphne", "hypercorn", "granian", "puma", "rackup", "unicorn", "thin", "waitress-serve"}
)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})


@dataclass(frozen=True)
class ServerCommand:
    """A command that starts a server. `server` is empty for a program that is none of the known ones.

    `prefix`: the words in front of the program. `before`: the commands in front of this one.
    """

    server: str
    program: str
    words: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    directory: str | None = None


def find_server(text: str) -> ServerCommand | None:
    """The command in this line that starts a server; None if none does. Raises `SettingsError`."""
    before: list[str] = []
    directory: str | None = None
    for words in shell_words.split(text):
        script = _script(words)
        found = find_server(script) if script is not None else _server(words)
        if found is not None:
            return replace(
                found, before=(*before, *found.before), directory=found.directory or directory
            )
        if words[0] == "cd" and len(words) > 1:
            directory = words[1]
        else:
            before.append(shell_words.join(words))
    return None


def any_command(text: str) -> ServerCommand:
    """The last command of the line as a server, whatever program it is. Raises `SettingsError` if there is none."""
    words = (shell_words.split(text) or [[]])[-1]
    assignments = _leading_assignments(words)
    if len(words) == len(assignments):
        raise SettingsError(f"this line starts no program: {masked(text)}")
    rest = tuple(words[len(assignments) :])
    return ServerCommand("", rest[0], rest, assignments)


def starts_server(text: str) -> bool:
    """Whether the line starts a server; a line that cannot be split into words starts none."""
    try:
        return find_server(text) is not None
    except SettingsError:
        return False


def _script(words: Sequence[str]) -> str | None:
    """The script of `sh -c SCRIPT`."""
    plain = [word for word in words if os.path.basename(word) not in ("exec", "env")]
    if len(plain) > 2 and os.path.basename(plain[0]) in _SHELLS and re.fullmatch(r"-\w*c", plain[1]):
        return plain[2]
    return None


def _server(words: Sequence[str]) -> ServerCommand | None:
    for number, word in enumerate(words):
        name = os.path.basename(word)
        server = _SERVERS.get(name)
        if server == "passenger" and list(words[number + 1 : number + 2]) != ["start"]:
            continue
        if server is None and name not in _OTHER_SERVERS and not _is_development(words[number:]):
            continue
        prefix = list(words[:number])
        variables = _leading_assignments([one for one in prefix if one not in ("env", "exec")])
        others = [one for one in prefix if one not in ("env", "exec") and not _ASSIGNMENT.fullmatch(one)]
        if len(others) >= 2 and others[-1] == "-m" and "python" in os.path.basename(others[-2]):
            others = others[:-2]
        skipped = 2 if server == "passenger" else 1
        rest = tuple(words[number + skipped :])
        return ServerCommand(server or "", word, rest if server else tuple(words[number:]), variables, tuple(others))
    return None


def _is_development(words: Sequence[str]) -> bool:
    first = os.path.basename(words[0])
    return (first == "manage.py" and "runserver" in words) or (first == "flask" and "run" in words)


def _leading_assignments(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        assignment = _ASSIGNMENT.fullmatch(word)
        if assignment is None:
            break
        found[assignment[1]] = assignment[2]
    return found


def outcome_of(command: ServerCommand, shown: str, place: str, directory: Path, read: ReadFile) -> Outcome:
    """The outcome for a command that is started in `directory`; it begins with an entry for the whole line."""
    here = directory / command.directory if command.directory else directory
    if command.server == "gunicorn":
        outcome = gunicorn.from_words(command.words, here, read, command.variables)
    elif command.server == "uwsgi":
        outcome = uwsgi.from_words(command.words, here, read, command.variables)
    elif command.server == "passenger":
        outcome = passenger.from_words(command.words)
    else:
        outcome = _of_other_program(command)
    head = Converted(place, masked(shown), tuple(_remarks(command, place)))
    return replace(
        outcome, entries=(head, *outcome.entries), directory=outcome.directory or command.directory
    )


def _remarks(command: ServerCommand, place: str) -> list[Item]:
    remarks: list[Item] = [
        Remark(f"Run it before appsrv start (ExecStartPre= in a unit): {masked(one)}") for one in command.before
    ]
    if command.prefix:
        prefix = shell_words.join(list(command.prefix))
        remarks.append(Remark(f"Start appsrv with the same words in front: {masked(prefix)} appsrv start"))
    return [*remarks, *environment(command.variables, place or "the command line")]


def _of_other_program(command: ServerCommand) -> Outcome:
    words = list(command.words)
    name = os.path.basename(command.program)
    if _is_development(words):
        note = "A server for development. appsrv start finds the application of manage.py or FLASK_APP by itself."
        return Outcome(name, (Converted("", "", (Remark(note),)),))
    if name == "waitress-serve":
        return _of_waitress(words[1:])
    line = shell_words.join(words)
    items: list[Item] = [Assigned("start_command", line)]
    if not re.search(r"\$\{?(PORT|SOCKET)\b", line):
        items.append(Remark(
            "CHANGE it: the program has to listen on the port $PORT of 127.0.0.1, or on the unix socket $SOCKET; "
            "appsrv starts it once for each worker (docs/generic.md)."
        ))  # fmt: skip
    if "0.0.0.0" in line:
        items.append(Remark("CHANGE 0.0.0.0 to 127.0.0.1: only appsrv has to reach the program."))
    return Outcome(name, (Converted("", "", tuple(items)),))


def _of_waitress(words: Sequence[str]) -> Outcome:
    entries = []
    for word in words:
        if word.startswith("-"):
            found = re.fullmatch(r"--(listen|port|host|unix-socket|threads)=(.*)", word)
            entries.append(Converted("", masked(word), (_of_waitress_flag(found[1], found[2]) if found else Remark(
                "appsrv has other options: see docs/settings.md."),)))  # fmt: skip
        else:
            factory = "()" if "--call" in words and not word.endswith(")") else ""
            entries.append(Converted("", word, (Assigned("app", word + factory),)))
    return Outcome("waitress", tuple(entries))


def _of_waitress_flag(name: str, value: str) -> Item:
    keys = {"port": "port", "host": "address", "unix-socket": "socket", "threads": "threads"}
    if name == "listen":
        host, _, port = value.rpartition(":")
        return Remark(f"Write address = \"{host.strip('*') or '0.0.0.0'}\" and port = {port}.")
    return Assigned(keys[name], int(value) if value.isdigit() else value)

