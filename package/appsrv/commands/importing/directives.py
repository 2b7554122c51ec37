"""What a configuration file or command line of another server contains: directives, in the order of the source.

Pure data. It knows neither the servers nor the settings of appsrv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ReadFile = Callable[[Path], str | None]
"""The text of a file that the source names; None if it cannot be read."""


@dataclass(frozen=True)
class ByProcessors:
    """A number that depends on the processors. `usual`: it is two for each processor, and one more."""

    usual: bool


@dataclass(frozen=True)
class Directive:
    """One option of the source.

    `place`: where it stands, such as `line 3`; empty for a flag. `shown`: the option as it is written there. `unread`:
    the reason why its value is not known. `variables`: the environment variables on which the value depends; `value`
    is then that without them. `replaced_by`: the place of a later directive that counts instead.
    """

    name: str
    value: object
    shown: str
    place: str = ""
    unread: str = ""
    variables: tuple[str, ...] = ()
    replaced_by: str = ""

    @property
    def text(self) -> str:
        """The value as text, without whitespace around it."""
        return str(self.value).strip()


@dataclass(frozen=True)
class Context:
    """What a counterpart may look at beside its own directive: all directives of the source. `server`: the program."""

    server: str
    directives: Sequence[Directive] = ()

    def get(self, name: str, default: object = None) -> object:
        """The value of the last directive with this name; `default` if there is none or it cannot be read."""
        for directive in reversed(self.directives):
            if directive.name == name and not directive.replaced_by:
                return default if directive.unread or directive.value is None else directive.value
        return default

    def has(self, name: str) -> bool:
        """Whether there is a directive with this name, readable or not."""
        return any(directive.name == name for directive in self.directives)


def mark_replaced(directives: Iterable[Directive], repeatable: Callable[[str], bool]) -> list[Directive]:
    """The directives, each that a later one with the same name replaces marked so."""
    given = list(directives)
    last = {directive.name: number for number, directive in enumerate(given)}
    return [
        directive
        if last[directive.name] == number or directive.replaced_by or repeatable(directive.name)
        else replace(directive, replaced_by=given[last[directive.name]].place or given[last[directive.name]].shown)
        for number, directive in enumerate(given)
    ]
