"""Makes the rows of the tables of counterparts: an option of another server, and what becomes of it.

A rule turns a directive into settings of appsrv and remarks. The tables themselves are in the modules `*_options`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appsrv.commands.importing.directives import ByProcessors, Context, Directive
from appsrv.commands.importing.masking import HIDDEN, holds_secret, masked
from appsrv.commands.importing.outcome import (
    PLATFORM,
    ROW,
    Assigned,
    Converted,
    Item,
    Items,
    Listen,
    Remark,
    taken_by_itself,
)

Make = Callable[[Directive, Context], Items]

HTTP_ONLY = "appsrv speaks HTTP only"


@dataclass(frozen=True)
class Rule:
    """`keys`: the settings that the option can become, for the remark about a value that cannot be read."""

    make: Make
    keys: tuple[str, ...] = ()


Rules = Mapping[str, Rule]


def entry_of(directive: Directive, rules: Rules, context: Context) -> Converted:
    """What becomes of one directive."""
    shown = masked(_without_values(directive))
    rule = rules.get(directive.name)
    items: Items
    if directive.replaced_by:
        items = (Remark(f"Replaced by {masked(directive.replaced_by)}, which counts."),)
    elif rule is None:
        items = (Remark(f"Not an option of {context.server} that appsrv import knows: look up what it does."),)
    elif directive.unread:
        items = (Remark(_unread(directive, rule)),)
    elif directive.value is None and rule.keys:
        items = (Remark(f"Nothing is needed: that is the default of {context.server}."),)
    else:
        items = rule.make(directive, context)
    return Converted(directive.place, shown, tuple(items) or (Remark("It sets nothing."),), directive.variables)


def _without_values(directive: Directive) -> str:
    """The text of a directive, without the secrets in variables that it sets for the application."""
    shown = directive.shown
    if directive.name in ("raw_env", "env"):
        for name, value in pairs_of(directive.value).items():
            shown = shown.replace(value, HIDDEN) if holds_secret(name, value) else shown
    return shown


def _unread(directive: Directive, rule: Rule) -> str:
    for key in rule.keys:
        if PLATFORM.get(key) in directive.variables:
            return taken_by_itself(Assigned(key, None))
    if not rule.keys:
        return f"Not read: {directive.unread}."
    keys = " and ".join(rule.keys)
    hint = f"write {keys}, or set ${ROW[rule.keys[0]].variable}"
    return f"Not read: {directive.unread}. Its counterpart is {keys}: {hint}."


# -- rules without a counterpart ---------------------------------------------------------------------------


def no(reason: str) -> Rule:
    """No counterpart; the reason says what to do instead."""
    return Rule(lambda directive, _: (Remark(reason),))


def no_if_off(reason: str, off: str) -> Rule:
    """No counterpart; `off` is the remark where the option is switched off."""
    return Rule(lambda directive, _: (Remark(reason if truth(directive.value) else off),))


# -- rules with one ----------------------------------------------------------------------------------------


def to(key: str, note: str = "", convert: Callable[[object], object] = lambda value: value) -> Rule:
    """The setting `key`, with the converted value. A ValueError of `convert` becomes a remark."""

    def make(directive: Directive, context: Context) -> Items:
        try:
            items: list[Item] = [Assigned(key, convert(directive.value))]
        except (ValueError, TypeError):
            return (Remark(f"The counterpart is {key}; the value is not understood: write it by hand."),)
        return [*items, Remark(note)] if note else items

    return Rule(make, (key,))


def number(value: object) -> int:
    """A whole number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("no number")
    return int(value)


def text(value: object) -> str:
    """The value as text that is not blank. Raises ValueError."""
    if value is None or isinstance(value, bool) or not str(value).strip():
        raise ValueError("no text")
    return str(value).strip()


def truth(value: object) -> bool:
    """A switch: the value of Python or JSON, or one of the words that mean yes; an option without a value is on."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "1", "true", "yes", "on")
    return bool(value)


def to_number(key: str, note: str = "") -> Rule:
    """The same number as `key`."""
    return to(key, note, number)


def to_text(key: str, note: str = "") -> Rule:
    """The same text as `key`."""
    return to(key, note, text)


def to_switch(key: str, note: str = "") -> Rule:
    """The same switch as `key`."""
    return to(key, note, truth)


def megabytes(value: object) -> str:
    """A number of megabytes as a size: `512M`, or 0."""
    count = number(value)
    return f"{count}M" if count else "0"


# -- rules that several servers share ----------------------------------------------------------------------

FIXED_POOL = (
    "{server} keeps a fixed number of workers, so min_instances is the same. With a lower min_instances the pool "
    "shrinks when there is little to do."
)


def fixed_workers(directive: Directive, context: Context) -> Items:
    """As many workers as the directive says, at least and at most."""
    note = Remark(FIXED_POOL.format(server=context.server))
    if isinstance(directive.value, ByProcessors):
        usual = (
            "auto is two workers for each processor and one more, or one for each processor where a worker serves "
            "several requests at a time."
        )
        other = "appsrv's own formula is auto; for another one write the number. " + usual
        return (
            Assigned("max_pool_size", "auto"),
            Remark(
                (usual if directive.value.usual else other) + f" {context.server} keeps all of them; for that write "
                "min_instances, too."
            ),
        )
    count = number(directive.value)
    items: list[Item] = [Assigned("max_pool_size", count)]
    if count and not directive.variables:
        items.append(Assigned("min_instances", count))
        items += [note] if count > 1 else []
    return items


def numeric(make: Make) -> Make:
    """The same, with a remark where the value is no number."""

    def checked(directive: Directive, context: Context) -> Items:
        try:
            return make(directive, context)
        except (ValueError, TypeError):
            return (Remark("The value is not understood: write the counterpart by hand."),)

    return checked


def environment(pairs: Mapping[str, str], source: str) -> list[Remark]:
    """Remarks for variables of the application's environment. Secrets are not shown."""
    remarks = []
    plain = {name: value for name, value in pairs.items() if not holds_secret(name, value) and not _is_special(name)}
    for name, value in pairs.items():
        if holds_secret(name, value):
            remarks.append(Remark(
                f"{name}: a secret, so its value is not shown here. Copy it from {source} into the file .env beside "
                "the application (mode 600), never into appsrv.toml."
            ))  # fmt: skip
        elif name.startswith("PYTHON"):
            remarks.append(Remark(f"{name} is read by the interpreter: start appsrv with {name}={value}."))
        elif name == "GUNICORN_CMD_ARGS":
            remarks.append(Remark(f'{name}: its options are read by appsrv import --gunicorn "gunicorn {value}".'))
    if plain:
        remarks.append(Remark(
            "The application's environment is the one that appsrv is started with, and the file .env beside the "
            f"application. Write there: {', '.join(f'{name}={value}' for name, value in plain.items())}"
        ))  # fmt: skip
    return remarks


def _is_special(name: str) -> bool:
    return name.startswith("PYTHON") or name == "GUNICORN_CMD_ARGS"


def pairs_of(value: object) -> dict[str, str]:
    """`NAME=VALUE`, or a list of them, as a mapping."""
    given = value if isinstance(value, (list, tuple)) else [value]
    parts = (str(one).strip().partition("=") for one in given)
    return {name.strip(): rest for name, _, rest in parts if name.strip()}


def parse_address(given: str) -> tuple[Assigned, ...] | str:
    """The settings for `HOST:PORT`, `:PORT`, `PORT`, `unix:PATH` or a path; or why there are none."""
    plain = given.strip().strip("\"'")
    unix = re.fullmatch(r"unix:(?://)?(.+)", plain)
    if unix or (plain.startswith(("/", "./", "../")) or plain.endswith(".sock")):
        path = unix[1] if unix else plain
        if path.startswith("@"):
            return "appsrv has no abstract unix sockets: name a path."
        return (Assigned("socket", path),)
    if plain.startswith("fd://"):
        return "appsrv takes sockets that systemd has opened by itself (LISTEN_FDS): see docs/operations.md."
    plain = plain.removeprefix("tcp://")
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*?)(?::(\d+))?", plain)
    if not found or not (found[1] or found[2]):
        return "the address is not understood: write address and port."
    host, port = found[1], found[2]
    if port is None and host.isdigit():
        host, port = "", host
    return (
        Assigned("address", host.strip("[]").lower() or "0.0.0.0"),
        *([Assigned("port", int(port))] if port else []),
    )


def listen(given: str) -> Item:
    """Where to listen, from an address as text."""
    parsed = parse_address(given)
    return Remark(f"No counterpart for {masked(given)}: {parsed}") if isinstance(parsed, str) else Listen(parsed)
