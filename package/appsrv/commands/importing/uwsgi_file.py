"""Reads uwsgi.ini as uWSGI does, with repeated keys and placeholders. Conditions and loops are only named. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from appsrv.commands.importing.directives import ByProcessors, Directive
from appsrv.commands.importing.uwsgi_options import ALIASES, RULES
from appsrv.errors import SettingsError

SECTION = "uwsgi"
LOGIC = "(logic)"
"""The name of directives in conditions and loops."""
PLACEHOLDER = "(placeholder)"
"""The name of directives that set no option, but a placeholder."""
OTHER_SECTION = "(section)"
"""The name of directives that stand for another section."""

_BEGINS = re.compile(r"(for|if)(-.*)?$|ifenv$|ifexists$|ifplugin$|ifdir$")
_ENDS = frozenset({"end", "endfor", "endif", "end-for", "end-if"})
_PLACEHOLDER = re.compile(r"%\(([^)]*)\)|%([a-zA-Z%])|\$\(([^)]*)\)|@\(([^)]*)\)")
# Their values have %-fields of their own.
_VERBATIM = frozenset({"log-format", "log-encoder", "procname-prefix", "procname"})
_DEPTH = 10
_SETS = frozenset({"set", "set-placeholder", "set-ph"})


class _Unknown(Exception):
    """A placeholder has no value here; the text is the reason."""


@dataclass(frozen=True)
class _Line:
    number: int
    key: str
    value: str


def read_file(text: str, path: str, section: str = SECTION) -> list[Directive]:
    """The directives of a section; without it, raises `SettingsError`. `path`: the absolute path of the file."""
    lines, others = _lines(text, section)
    if not lines:
        found = ", ".join(f"[{name}]" for name in others) or "no section at all"
        raise SettingsError(f"{path} has no section [{section}], but {found}: name the one that uWSGI gets, --program")
    values = _Values([(line.key, line.value) for line in lines], path)
    directives = list(_directives(lines, values))
    return [*directives, *(
        Directive(OTHER_SECTION, None, f"[{name}]", f"line {number}", unread=f"uWSGI reads it only by {path}:{name}")
        for name, number in others.items()
    )]  # fmt: skip


def _lines(text: str, section: str) -> tuple[list[_Line], dict[str, int]]:
    lines: list[_Line] = []
    others: dict[str, int] = {}
    current = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("["):
            current = line[1:].rstrip("]").strip()
            if current != section:
                others.setdefault(current, number)
        elif line and line[0] not in ";#" and current == section:
            key, _, value = line.partition("=")
            lines.append(_Line(number, key.strip(), value.strip()))
    return lines, others


def _directives(lines: Iterable[_Line], values: _Values) -> Iterator[Directive]:
    opened: _Line | None = None
    inside: list[_Line] = []
    for line in lines:
        if opened is None and _BEGINS.match(line.key):
            opened, inside = line, []
        elif opened is not None and line.key in _ENDS:
            yield _logic(opened, inside, line.number)
            opened = None
        elif opened is not None:
            inside.append(line)
        else:
            yield from _directive(line, values)
    if opened is not None:
        yield _logic(opened, inside, inside[-1].number if inside else opened.number)


def _logic(opened: _Line, inside: list[_Line], last: int) -> Directive:
    sets = ", ".join(dict.fromkeys(line.key for line in inside if line.key != "else")) or "nothing"
    kind = "a loop" if opened.key.startswith("for") else "a condition"
    return Directive(
        LOGIC, None, f"{opened.key} = {opened.value}", f"lines {opened.number} to {last}",
        unread=f"{kind}, which sets {sets}: write what applies to this machine",
    )  # fmt: skip


def _directive(line: _Line, values: _Values) -> Iterator[Directive]:
    shown = f"{line.key} = {line.value}" if line.value else line.key
    place = f"line {line.number}"
    name = ALIASES.get(line.key, line.key)
    if name in _SETS or (name not in RULES and line.key in values.used):
        yield Directive(PLACEHOLDER, line.value, shown, place)
    else:
        yield resolved(Directive(name, line.value, shown, place), values)


def resolved(directive: Directive, values: _Values) -> Directive:
    """The directive with its placeholders filled in, or marked as unread."""
    if directive.name in _VERBATIM:
        return directive
    text = directive.text
    variables = tuple(found[3] for found in _PLACEHOLDER.finditer(text) if found[3])
    if "%k" in text:
        usual = re.sub(r"\s", "", text) in ("%(%k*2+1)", "%(2*%k+1)")
        unread = "" if directive.name == "processes" else "it depends on the number of processors"
        return Directive(directive.name, ByProcessors(usual), directive.shown, directive.place, unread)
    try:
        return Directive(directive.name, values.filled(text), directive.shown, directive.place, variables=variables)
    except _Unknown as reason:
        return Directive(directive.name, None, directive.shown, directive.place, str(reason), variables)


class _Values:
    """The values of placeholders: the options of the file, those that `set` makes, and the parts of its path."""

    def __init__(self, options: Sequence[tuple[str, str]], path: str) -> None:
        self._options = dict(options)
        for name, value in options:
            if name in _SETS:
                key, _, rest = value.partition("=")
                self._options[key.strip()] = rest.strip()
        self._magic = _magic(path)
        # The names that placeholders use.
        self.used = {found[1] for _, value in options for found in _PLACEHOLDER.finditer(value) if found[1]}

    def filled(self, text: str, depth: int = _DEPTH) -> str:
        """The text with its placeholders replaced. Raises `_Unknown`."""
        if not depth:
            raise _Unknown("its placeholders refer to each other")
        return _PLACEHOLDER.sub(lambda found: self._one(found, depth - 1), text)

    def _one(self, found: re.Match[str], depth: int) -> str:
        option, magic, variable, file = found.groups()
        if variable is not None:
            raise _Unknown(f"it is what ${variable} holds")
        if file is not None:
            raise _Unknown(f"it is the content of {file}")
        if magic is not None:
            if magic not in self._magic:
                raise _Unknown(f"uWSGI sets %{magic} when it starts")
            return self._magic[magic]
        if option not in self._options:
            raise _Unknown(f"the placeholder %({option}) is not set in this file")
        return self.filled(self._options[option], depth)


def _magic(path: str) -> dict[str, str]:
    directory, name = os.path.split(path)
    stem, _, extension = name.rpartition(".")
    letters = {"p": path, "s": name, "d": f"{directory.rstrip('/')}/", "e": extension, "n": stem or name}
    letters |= {"c": os.path.basename(directory), "o": path}
    return {**letters, **{letter.upper(): value for letter, value in letters.items()}, "%": "%"}
