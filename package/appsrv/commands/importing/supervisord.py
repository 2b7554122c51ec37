"""Reads one `[program:x]` of supervisord, and its command. Reads files by `read` only, and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from appsrv.commands.importing.command_line import any_command, find_server, outcome_of, starts_server
from appsrv.commands.importing.counterparts import environment
from appsrv.commands.importing.masking import masked
from appsrv.commands.importing.outcome import Assigned, Converted, Item, Outcome, Remark
from appsrv.commands.importing.programs import ANOTHER, Place, chosen, options_of

_PAIR = re.compile(r"""([\w.]+)\s*=\s*("[^"]*"|'[^']*'|[^,]*)""")
_SUPERVISOR_VARIABLE = re.compile(r"%\((\w+)\)[sdx](?:0?\d*)")
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
    options = list(options_of(text, "[;#]", continued=True))
    programs = {one.section.partition(":")[2].strip(): one.value for one in options
                if one.section.startswith(("program:", "fcgi-program:")) and one.key == "command"}  # fmt: skip
    wanted = chosen(programs, place)
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
        return ANOTHER.format(name=name)
    return "It stays with supervisord; appsrv starts no other programs."
