"""One row of the table of settings: its names, its kind of value, its default and its help.

It knows neither the settings themselves (module `table`) nor the sources of their values (module `sources`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from appsrv.settings import parsers
from appsrv.settings.kinds import Kind

PREFIX = "APPSRV_"


def setting(
    default: Any,
    kind: Kind | parsers.Parser,
    *,
    group: str,
    help: str,
    metavar: str = "",
    flag: str = "",
    shown_default: str = "",
    sample: Any = None,
    key_only: bool = False,
    several: bool = False,
    per_app: bool = False,
    operator_only: bool = False,
    inherited: bool = True,
    python_only: bool = False,
) -> Any:
    """A dataclass field of `Settings` with its row as metadata; the arguments are the fields of `SettingRow`.

    A parser in place of a `Kind` is for a value without paths.
    """
    kind = kind if isinstance(kind, Kind) else Kind(kind)
    row = {"kind": kind, "group": group, "help": help, "metavar": metavar, "flag": flag}
    shown = {"shown_default": shown_default, "sample": sample, "key_only": key_only, "several": several}
    scope = {"per_app": per_app, "operator_only": operator_only, "inherited": inherited, "python_only": python_only}
    return field(default=default, metadata=row | shown | scope)


@dataclass(frozen=True)
class SettingRow:
    """One setting, with its names and the rules for its values.

    `group`: the heading of its paragraph. `flag`: its short flag. `sample`: a value in a file, for a setting whose
    default cannot be written there. `key_only`: settable in a file only. `several`: a
    tuple, whose flag may be repeated. `per_app`: applications of one instance may have different values, from an entry
    of `[[apps]]` or from files of their own. `operator_only`: not from their own files, which the application's author
    writes. `inherited`: the instance's value is the default of its applications. `python_only`: of no use to an
    application with a `start_command`.
    """

    name: str
    default: Any
    kind: Kind
    group: str
    help: str
    metavar: str
    flag: str
    shown_default: str
    sample: Any
    key_only: bool
    several: bool
    per_app: bool
    operator_only: bool
    inherited: bool
    python_only: bool

    @property
    def long_flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def is_boolean(self) -> bool:
        return isinstance(self.default, bool)

    @property
    def default_text(self) -> str:
        """The default as text for help and docs."""
        if self.shown_default or self.default is None or self.default == ():
            return self.shown_default or "none"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default).lower()
