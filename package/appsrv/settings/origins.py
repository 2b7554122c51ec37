"""The origin of a setting's value, and a value with its origin. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OriginKind = Literal["default", "file", "variable", "flag", "command", "directory"]


@dataclass(frozen=True)
class SettingOrigin:
    """The source of a value.

    `name`: the variable (without `$`), the flag, or the key as the file has it. `file`, `path` and `line` are those of
    a key; `line` is 0 until `files.located` has looked it up. Kind `command`: the default of a command. Kind
    `directory`: the name of an application's directory.
    """

    kind: OriginKind
    name: str = ""
    file: str = ""
    path: tuple[str | int, ...] = ()
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.file}:{self.line}" if self.line else self.file
        if self.kind == "directory":
            return f"name of {self.name}"
        words = {"default": "default", "command": "default of the command", "variable": f"${self.name}"}
        return words.get(self.kind, self.name)


DEFAULT = SettingOrigin("default")
COMMAND = SettingOrigin("command")


@dataclass(frozen=True)
class Given:
    """A parsed value with its origin."""

    value: object
    origin: SettingOrigin
