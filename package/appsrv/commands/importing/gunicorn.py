"""gunicorn: its configuration file and its command line, joined as gunicorn does. Reads files by `read` only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from appsrv.commands.importing import gunicorn_file, gunicorn_flags, gunicorn_options
from appsrv.commands.importing.counterparts import entry_of, no
from appsrv.commands.importing.directives import Context, Directive, ReadFile, mark_replaced
from appsrv.commands.importing.gunicorn_file import CODE, OWN_NAME
from appsrv.commands.importing.outcome import Converted, Outcome, Remark
from appsrv.commands.importing.shell_words import expanded

SERVER = "gunicorn"
CONFIG = "gunicorn.conf.py"
_RULES = {
    **gunicorn_options.RULES,
    OWN_NAME: no("No option of gunicorn: a name that the file itself uses."),
    CODE: no(""),
}


def from_file(text: str, path: Path) -> Outcome:
    """The outcome for a configuration file."""
    return _outcome(gunicorn_file.read_file(text, str(path)))


def from_words(
    words: Sequence[str], directory: Path, read: ReadFile, variables: Mapping[str, str] | None = None
) -> Outcome:
    """The outcome for the words of a command line after `gunicorn`, started in `directory`.

    Its configuration file, which may be gunicorn.conf.py in that directory without a flag, comes first: flags win.
    `variables`: those that the command line sets itself.
    """
    flags = [expanded(one, variables or {}) for one in gunicorn_flags.read_words(words)]
    context = Context(SERVER, flags)
    named = context.get("config")
    # gunicorn looks where it is started, not in `chdir`.
    if named is None:
        text = read(directory / CONFIG)
        return _outcome([*(_of_config(text, directory / CONFIG) if text is not None else []), *flags])
    target = str(named).removeprefix("file:")
    path = Path(os.path.join(directory, target))
    text = None if target.startswith("python:") else read(path)
    if text is None:
        reason = "the file cannot be read: import it by itself, too"
        return _outcome([replace(one, unread=reason) if one.name == "config" else one for one in flags])
    return _outcome([*_of_config(text, path), *(one for one in flags if one.name != "config")])


def _of_config(text: str, path: Path) -> list[Directive]:
    return gunicorn_file.read_file(text, str(path), f"{path.name} ")


def _outcome(given: Sequence[Directive]) -> Outcome:
    # A flag that may be repeated replaces what the file has, and adds to other flags.
    last_in_file = max((number for number, one in enumerate(given) if one.place), default=-1)
    flags = given[last_in_file + 1 :]
    by_flag = {one.name for one in flags}
    in_file = mark_replaced(given[: last_in_file + 1], lambda name: name in (OWN_NAME, CODE))
    in_file = [_replaced(one) if one.name in by_flag and not one.replaced_by else one for one in in_file]
    directives = [*in_file, *mark_replaced(flags, lambda name: name in gunicorn_flags.REPEATABLE)]
    context = Context(SERVER, directives)
    chdir = context.get("chdir")
    return Outcome(
        SERVER,
        tuple(_entry(one, context) for one in directives),
        str(chdir) if chdir else None,
        tuple(gunicorn_options.defaults(context)),
    )


def _replaced(directive: Directive) -> Directive:
    return Directive(directive.name, directive.value, directive.shown, directive.place, replaced_by="the command line")


def _entry(directive: Directive, context: Context) -> Converted:
    entry = entry_of(directive, _RULES, context)
    if directive.name == CODE:
        return Converted(entry.place, entry.shown, (Remark(f"Not read: {directive.unread}."),))
    return entry
