"""The report of `appsrv check`: all settings as `appsrv start` would read them, each with its origin, and the errors.

Reads the project's files and imports nothing of the project. The command itself is in `examine`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from appsrv.apps import finder, hosting
from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import read_dotenv
from appsrv.errors import AppsrvError, SettingsError
from appsrv.settings import files, sources
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.origins import DEFAULT, SettingOrigin
from appsrv.settings.parsers import AUTO
from appsrv.settings.row import SettingRow
from appsrv.settings.table import ROWS, Settings
from appsrv.system import fifo
from appsrv.system.users import identity_of
from appsrv.system.words import in_line
from appsrv.watchdog.socket_access import SocketAccess


@dataclass(frozen=True)
class CheckedValue:
    """One setting of the instance or of an application."""

    row: SettingRow
    value: Any
    origin: SettingOrigin

    @property
    def is_default(self) -> bool:
        return bool(self.value == self.row.default)

    @property
    def text(self) -> str:
        """The value as it would be written in a file; where there is none, the documentation's words for that."""
        if self.value in (None, ()) and self.is_default:
            return self.row.default_text.replace("`", "")
        return size_text(self.value) if self.row.metavar == "BYTES" else text_of(self.value)

    def to_json(self) -> dict[str, Any]:
        value, default = (None if one == NO_FILE else one for one in (self.value, self.row.default))
        origin = {name: part for name, part in asdict(self.origin).items() if name != "path"}
        return {"value": value, "text": self.text, "default": default, "origin": origin}


@dataclass(frozen=True)
class CheckedApp:
    """One of several applications: its settings that are not the instance's."""

    name: str
    app: str
    values: tuple[CheckedValue, ...]


@dataclass(frozen=True)
class SettingsReport:
    """`app`: the application in the words of the command line. `warnings` do not keep `start` from serving."""

    directory: str
    app: str = ""
    values: tuple[CheckedValue, ...] = ()
    apps: tuple[CheckedApp, ...] = ()
    errors: tuple[AppsrvError, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return {
            "directory": self.directory,
            "app": self.app,
            "settings": {one.row.name: one.to_json() for one in self.values},
            "apps": [
                {"name": one.name, "app": one.app, "settings": {each.row.name: each.to_json() for each in one.values}}
                for one in self.apps
            ],
            "errors": [_error(error) for error in self.errors],
            "warnings": list(self.warnings),
        }


def _error(error: AppsrvError) -> dict[str, Any]:
    place: dict[str, Any] = {"settings": [], "file": None, "line": None}
    if isinstance(error, SettingsError):
        place = {"settings": list(error.names), "file": error.file or None, "line": error.line or None}
    return {"message": str(error), **place}


# -- what start would do -----------------------------------------------------------------------------------


def examine(app: str | None, flags: Mapping[str, object], environ: Mapping[str, str], here: Path) -> SettingsReport:
    """Read the settings of `appsrv start APP` with these flags."""
    directory = finder.project_directory(app, here)
    loaded = sources.read(flags, environ, directory, cwd=here)
    warnings = tuple(sources.variable_notices(environ))
    if loaded.settings is None:
        return SettingsReport(str(directory), errors=loaded.errors, warnings=warnings)
    settings, errors = loaded.settings, list(_of_machine(loaded.settings, loaded.origins))
    values = tuple(_values(settings, loaded.origins))
    hosted, shown = hosting.HostedApps(), ""
    try:
        if hosting.is_hosting(settings, directory):
            hosted = hosting.hosted_apps(settings, directory, environ)
            errors += [SettingsError(f"{name} is not served: {why}") for name, why in hosted.problems.items()]
        else:
            spec = finder.find(app, here, environ, settings.app, settings.start_command)
            shown = spec.shown
            warnings += tuple(_of_dotenv(os.path.join(spec.root, ".env")))
    except AppsrvError as error:
        errors.append(error)
    apps = tuple(_app(group, hosted.origins[group.name]) for group in hosted.groups)
    return SettingsReport(str(directory), shown, values, apps, tuple(errors), warnings)


def _of_dotenv(file: str) -> Iterator[str]:
    """A warning for each setting in `.env`. A FIFO is not read: its writer may serve it only once."""
    names = {row.variable for row in ROWS if not row.key_only}
    for name in () if fifo.is_fifo(file) else sorted(names & read_dotenv(file).keys()):
        yield f"{file}: {name} has no effect there, .env is for the application: set it in the environment of appsrv"


def _of_machine(settings: Settings, origins: Mapping[str, SettingOrigin]) -> Iterator[AppsrvError]:
    """What only this machine and this user can tell: users and groups that exist, a certificate that can be read."""
    for names, attempt in (
        (("user", "group"), lambda: identity_of(settings.user, settings.group)),
        (("socket_user", "socket_group"), lambda: SocketAccess.of(settings)),
        (("ssl_certificate", "ssl_certificate_key"), lambda: _load_certificate(settings)),
    ):
        try:
            attempt()
        except AppsrvError as error:
            yield sources.with_origins(SettingsError(str(error), names=names), origins)


def _load_certificate(settings: Settings) -> None:
    if settings.ssl_certificate is not None:
        from appsrv.net import certificates

        certificates.load(settings.ssl_certificate, settings.ssl_certificate_key)


def _values(settings: Settings, origins: Mapping[str, SettingOrigin]) -> Iterator[CheckedValue]:
    for row in ROWS:
        yield CheckedValue(row, getattr(settings, row.name), files.located(origins.get(row.name, DEFAULT)))


def _app(group: AppGroup, origins: Mapping[str, SettingOrigin]) -> CheckedApp:
    own = [one for one in _values(group.settings, origins) if one.row.name in origins]
    return CheckedApp(group.name, group.app, tuple(own))


# -- as text -----------------------------------------------------------------------------------------------


def text_of(value: object) -> str:
    """A value as it would be written in a file, on one line."""
    if value == AUTO:
        return "auto"
    if value is None or value == NO_FILE:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(value) or "off"
    if isinstance(value, float):
        return f"{value:g}"
    return in_line(json.dumps(value) if isinstance(value, bool) else value)


def size_text(value: int) -> str:
    """A number of bytes with the largest unit in which it is whole: `300M`."""
    units = ((1 << shift, unit) for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")))
    return next((f"{value // size}{unit}" for size, unit in units if value and value % size == 0), str(value))


def as_text(report: SettingsReport, *, everything: bool) -> str:
    """The values with their origins; without `everything` only those that differ from the default."""
    lines = [f"Application: {report.app or f'{len(report.apps)} applications'} in {report.directory}", ""]
    shown = [one for one in report.values if everything or not one.is_default]
    lines += _table(shown) if shown else ["All settings have their default values."]
    for app in report.apps:
        own = [one for one in app.values if everything or not one.is_default]
        lines += ["", f"{in_line(app.name)}: {in_line(app.app)}", *_table(own)]
    return "\n".join(lines)


def _table(values: list[CheckedValue]) -> Iterator[str]:
    names = max((len(one.row.name) for one in values), default=0)
    texts = min(40, max((len(one.text) for one in values), default=0))
    for one in values:
        yield f"{one.row.name:<{names}}  {one.text:<{texts}}  {one.origin}".rstrip()
