"""Splits a command line as a shell does, and fills in its variables. Pure: reads no environment and runs no command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from appsrv.commands.importing.directives import ByProcessors, Directive
from appsrv.errors import SettingsError

_SUBSTITUTION = re.compile(r"\$\(\(.*?\)\)(?!\))|\$\([^()]*\)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?[-=]([^}]*))?\}|(\w+))")
_USUAL = ("$((2*$(nproc)+1))", "$(($(nproc)*2+1))", "$((2*`nproc`+1))")
_OPERATORS = ";&|<>"
_PLAIN = re.compile(r"[\w@%+=:,./${}*-]+")
NOMINAL_PORT = "8000"
"""The value of $PORT where none is given: appsrv's own default. appsrv takes $PORT by itself."""


def split(text: str) -> list[list[str]]:
    """The simple commands of a command line, each as its words, without redirections. Raises `SettingsError`."""
    # Substitutions have spaces in them, which would part them.
    text = _SUBSTITUTION.sub(lambda found: found[0].replace(" ", ""), text.replace("\\\n", " "))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise SettingsError(f"the command line cannot be split into words ({error}): {text[:80]}") from None
    return _commands(words)


def _commands(words: list[str]) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    rest = iter(words)
    for word in rest:
        if not word or not set(word) <= set(_OPERATORS):
            commands[-1].append(word)
        elif {"<", ">"} & set(word):
            # `2>&1` is split into three words.
            if commands[-1] and commands[-1][-1] in ("1", "2"):
                commands[-1].pop()
            next(rest, None)
        else:
            commands.append([])
    return [command for command in commands if command]


def join(words: list[str]) -> str:
    """The words as a command line; variables stay variables."""
    return " ".join(word if _PLAIN.fullmatch(word) else shlex.quote(word) for word in words)


def expanded(directive: Directive, variables: Mapping[str, str]) -> Directive:
    """The directive with the variables in its value replaced: by what the command line sets, or by their defaults."""
    if not isinstance(directive.value, str) or "$" not in directive.value:
        return directive
    if "nproc" in directive.value:
        unread = "" if directive.name in ("workers", "processes") else "it depends on the number of processors"
        usual = directive.value.replace(" ", "") in _USUAL
        return replace(directive, value=ByProcessors(usual), unread=unread)
    names: dict[str, None] = {}
    missing: list[str] = []

    def value_of(found: re.Match[str]) -> str:
        name, default = found[1] or found[3], found[2]
        if name in variables:
            return variables[name]
        names[name] = None
        if default is None and name != "PORT":
            missing.append(name)
        return default if default is not None else NOMINAL_PORT

    text = _VARIABLE.sub(value_of, directive.value)
    if missing:
        held = " and ".join(f"${name}" for name in missing)
        return replace(directive, value=None, unread=f"it is what {held} holds", variables=tuple(names))
    if "$" in text:
        return replace(directive, value=None, unread="only a shell would tell", variables=tuple(names))
    return replace(directive, value=text, variables=tuple(names))
