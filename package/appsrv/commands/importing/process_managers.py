"""Files that hold the command of a server among others: Procfile, supervisord's programs, units of systemd.

Reads files by `read` only, and runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appsrv.commands.importing import shell_words
from appsrv.commands.importing.command_line import any_command, find_server, outcome_of, starts_server
from appsrv.commands.importing.counterparts import environment
from appsrv.commands.importing.directives import ReadFile
from appsrv.commands.importing.masking import masked
from appsrv.commands.importing.outcome import Assigned, Converted, Item, Outcome, Remark
from appsrv.errors import SettingsError

_PROCESS = re.compile(r"([\w.-]+)\s*:\s*(\S.*)")
_PAIR = re.compile(r"""([\w.]+)\s*=\s*("[^"]*"|'[^']*'|[^,]*)""")
_SUPERVISOR_VARIABLE = re.compile(r"%\((\w+)\)[sdx](?:0?\d*)")


@dataclass(frozen=True)
class Place:
    """The file that is read. `program`: the one that the user has asked for."""

    name: str
    directory: Path
    read: ReadFile
    program: str | None = None


# -- Procfile ----------------------------------------------------------------------------------------------


def from_procfile(text: str, place: Place) -> Outcome:
    """The outcome for one process type of a Procfile: `web`, or else the first with a server."""
    lines = [(number, match[1], match[2].strip()) for number, line in enumerate(text.splitlines(), 1)
             if (match := _PROCESS.fullmatch(line.strip())) and not line.lstrip().startswith("#")]  # fmt: skip
    wanted = _chosen({name: command for _, name, command in lines}, place, prefer="web")
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
        return f"Another server: appsrv import --program {name}, into a directory of its own."
    if name == "release":
        return "Run it before appsrv restart-app."
    return "appsrv starts no other programs: it stays where it is, or gets a unit of systemd."


def _chosen(commands: Mapping[str, str], place: Place, prefer: str = "") -> str:
    """The program that is imported. Raises `SettingsError`."""
    names = ", ".join(commands) or "none"
    if place.program is not None:
        if place.program not in commands:
            raise SettingsError(f"{place.name} has no program {place.program}: it has {names}")
        return place.program
    if prefer in commands:
        return prefer
    served = [name for name, command in commands.items() if starts_server(command)]
    if not served:
        raise SettingsError(
            f"{place.name} starts no server that appsrv import knows (programs: {names}): name one by --program"
        )
    return served[0]


# -- files in sections -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Option:
    number: int
    section: str
    key: str
    value: str


def _options(text: str, comment: str, *, continued: bool) -> Iterator[_Option]:
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
        pending = _Option(number, section, key.strip(), value.strip())
    if pending is not None:
        yield pending


# -- supervisord -------------------------------------------------------------------------------------------

_STAYS = "It stays in the section of supervisord, whose command becomes appsrv start."
_ROTATION = "`appsrv config logrotate` prints a configuration for logrotate."
_ONE_LOG = "The server log has both streams."
_SUPERVISORD: Mapping[str, str] = {
    **dict.fromkeys(("autostart", "autorestart", "startsecs", "startretries", "exitcodes", "priority", "process_name",
                     "stopsignal", "umask", "serverurl", "numprocs_start"), _STAYS),
    "stopwaitsecs": f"{_STAYS} It has to be above stop_timeout (30 s), so that requests can end.",
    "stopasgroup": "Leave it out: appsrv stops its own processes in order.",
    "killasgroup": f"{_STAYS} What it kills are processes that outlived the stop.",
    "redirect_stderr": "Nothing is needed: the server log has both streams.",
    "stderr_logfile": f"{_ONE_LOG} See log_file.",
    **dict.fromkeys(("stdout_logfile_maxbytes", "stdout_logfile_backups", "stderr_logfile_maxbytes",
                     "stderr_logfile_backups"), _ROTATION),
    **dict.fromkeys(("stdout_capture_maxbytes", "stderr_capture_maxbytes", "stdout_events_enabled",
                     "stderr_events_enabled"), "appsrv sends supervisord no events."),
    **dict.fromkeys(("stdout_syslog", "stderr_syslog"), "The server log is a file; syslog can read it."),
}  # fmt: skip


def from_supervisord(text: str, place: Place) -> Outcome:
    """The outcome for one `[program:x]`: the one asked for, or the first with a server."""
    options = list(_options(text, "[;#]", continued=True))
    programs = {one.section.partition(":")[2].strip(): one.value for one in options
                if one.section.startswith(("program:", "fcgi-program:")) and one.key == "command"}  # fmt: skip
    wanted = _chosen(programs, place)
    own = {one.key: one.value for one in options if one.section.partition(":")[2].strip() == wanted}
    here = {"here": str(place.directory), "program_name": wanted, "numprocs": own.get("numprocs", "1")}
    directory = _supervisor_value(own["directory"], here) if "directory" in own else None
    base = place.directory / (directory or "")
    entries: list[Converted] = []
    server, inner = "", None
    others: set[str] = set()
    for one in options:
        shown, where = f"{one.key} = {one.value}", f"line {one.number}"
        if one.section.partition(":")[2].strip() != wanted:
            if one.section not in others:
                entries.append(Converted(where, f"[{one.section}]", (Remark(_other_section(one.section, programs)),)))
            others.add(one.section)
        elif one.key == "command":
            command = _supervisor_value(one.value, here)
            outcome = outcome_of(find_server(command) or any_command(command), shown, where, base, place.read)
            server, inner = outcome.server, outcome
            entries += outcome.entries
        elif one.key == "environment":
            pairs = {found[1]: found[2].strip("\"' ") for found in _PAIR.finditer(one.value)}
            remarks = environment(pairs, f"{place.name}, {where}")
            entries.append(Converted(where, f"environment = ({', '.join(pairs)})", tuple(remarks)))
        else:
            value = _supervisor_value(one.value, here)
            entries.append(Converted(where, masked(shown), tuple(_supervisor_items(one.key, value))))
    defaults = inner.defaults if inner else ()
    return Outcome(server, tuple(entries), (inner.directory if inner else None) or directory, defaults)


def _supervisor_value(value: str, variables: Mapping[str, str]) -> str:
    """The value with supervisord's placeholders; those for the environment become the shell's."""

    def filled(found: re.Match[str]) -> str:
        name = found[1]
        return f"${{{name[4:]}}}" if name.startswith("ENV_") else variables.get(name, found[0])

    return _SUPERVISOR_VARIABLE.sub(filled, value).replace("%%", "%")


def _supervisor_items(key: str, value: str) -> list[Item]:
    if key == "directory":
        return [Remark(f"appsrv.toml belongs into that directory, {value}. It stays in the section, too.")]
    if key == "user":
        return [Remark(f"{_STAYS} Where supervisord does not change the user: user = \"{value}\".")]
    if key == "stdout_logfile":
        if value.upper() in ("AUTO", "NONE", "SYSLOG") or value.startswith("/dev/") or "%(" in value:
            return [Remark("appsrv writes its own server log: see log_file.")]
        return [
            Assigned("log_file", value),
            Remark("appsrv writes that file itself, so set stdout_logfile = NONE in the section."),
        ]
    if key == "numprocs":
        if value == "1":
            return [Remark("Nothing is needed: one instance of appsrv has all workers.")]
        return [Remark(f"One instance of appsrv is enough: leave it out, and multiply max_pool_size by {value}.")]
    if key == "loglevel" or key not in _SUPERVISORD:
        return [Remark("Not an option of a program that appsrv import knows.")]
    return [Remark(_SUPERVISORD[key])]


def _other_section(section: str, programs: Mapping[str, str]) -> str:
    name = section.partition(":")[2].strip()
    if name in programs and starts_server(programs[name]):
        return f"Another server: appsrv import --program {name}, into a directory of its own."
    return "It stays with supervisord; appsrv starts no other programs."


# -- systemd -----------------------------------------------------------------------------------------------

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
    options = list(_options(text, "", continued=False))
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


# -- a command alone ---------------------------------------------------------------------------------------


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
