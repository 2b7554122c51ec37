"""uWSGI: its ini file, and its command line with an ini file. Reads files by `read` only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from appsrv.commands.importing import uwsgi_file, uwsgi_options
from appsrv.commands.importing.counterparts import entry_of, no
from appsrv.commands.importing.directives import Context, Directive, ReadFile
from appsrv.commands.importing.outcome import Converted, Outcome, Remark
from appsrv.commands.importing.shell_words import expanded
from appsrv.commands.importing.uwsgi_file import LOGIC, OTHER_SECTION, PLACEHOLDER

SERVER = "uWSGI"
_RULES = {
    **uwsgi_options.RULES,
    PLACEHOLDER: no("A placeholder of the file: its value is filled in where it is used."),
    LOGIC: no(""),
    OTHER_SECTION: no(""),
}


def from_file(text: str, path: Path, section: str = uwsgi_file.SECTION) -> Outcome:
    """The outcome for an ini file."""
    return _outcome(uwsgi_file.read_file(text, str(path), section))


def from_words(
    words: Sequence[str], directory: Path, read: ReadFile, variables: Mapping[str, str] | None = None
) -> Outcome:
    """The outcome for the words of a command line after `uwsgi`, started in `directory`."""
    directives: list[Directive] = []
    rest = list(words)
    while rest:
        directive = expanded(_flag(rest.pop(0), rest), variables or {})
        directives += _of_ini(directive, directory, read) if directive.name == "include" else [directive]
    return _outcome(directives)


def _flag(word: str, rest: list[str]) -> Directive:
    """One flag; takes its value from `rest`."""
    if not word.startswith("-"):
        ini = word.partition(":")[0].endswith(".ini")
        return Directive("include" if ini else "module", word, word)
    name, equals, value = word.partition("=")
    if not word.startswith("--"):
        name, equals, value = (word[:2], "=", word[2:]) if len(word) > 2 else (word, "", "")
    option = uwsgi_options.SHORT.get(name, name.removeprefix("--"))
    option = uwsgi_options.ALIASES.get(option, option)
    if option in ("set", "set-placeholder", "set-ph"):
        option = PLACEHOLDER
    if equals or option in uwsgi_options.SWITCHES or not rest or rest[0].startswith("-"):
        return Directive(option, value, word)
    value = rest.pop(0)
    return Directive(option, value, f"{word} {value}")


def _of_ini(directive: Directive, directory: Path, read: ReadFile) -> list[Directive]:
    name, _, section = directive.text.partition(":")
    path = directory / name
    text = read(path)
    if text is None:
        return [directive]
    found = uwsgi_file.read_file(text, str(path), section or uwsgi_file.SECTION)
    return [Directive(one.name, one.value, one.shown, f"{path.name} {one.place}", one.unread, one.variables)
            for one in found]  # fmt: skip


def _outcome(directives: Sequence[Directive]) -> Outcome:
    context = Context(SERVER, directives)
    chdir = context.get("chdir")
    return Outcome(
        SERVER,
        tuple(_entry(one, context) for one in directives),
        str(chdir) if chdir else None,
        tuple(uwsgi_options.defaults(context)),
    )


def _entry(directive: Directive, context: Context) -> Converted:
    entry = entry_of(directive, _RULES, context)
    if directive.name in (LOGIC, OTHER_SECTION):
        return Converted(entry.place, entry.shown, (Remark(f"Not read: {directive.unread}."),))
    return entry
