"""Reads the values of the settings from their sources: defaults, files, variables, flags; a later source wins.

Only this module reads the process's environment. The settings themselves are in `table`. Neither module knows the code
that uses a setting.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appsrv.errors import SettingsError
from appsrv.settings import files, foreign_variables, internal_variables, parsers
from appsrv.settings.consistency import contradictions
from appsrv.settings.origins import COMMAND, DEFAULT, Given, SettingOrigin
from appsrv.settings.row import PREFIX
from appsrv.settings.table import ROWS, Settings
from appsrv.system import cpus
from appsrv.system.words import listed

PLATFORM_VARIABLES = {"PORT": "port", "WEB_CONCURRENCY": "max_pool_size", "FORWARDED_ALLOW_IPS": "forwarded_allow_ips"}
"""The variables of hosting platforms, each with the setting that it is for."""

BY_NAME = {row.name: row for row in ROWS}
_BY_VARIABLE = {row.variable: row for row in ROWS if not row.key_only}


def environment() -> dict[str, str]:
    """A copy of this process's environment; other modules get it as an argument instead of reading `os.environ`."""
    return dict(os.environ)


def first_environment() -> dict[str, str]:
    """The environment that this process was started with (proc_pid_environ(5)), without variables set since.

    Empty on a system without /proc.
    """
    try:
        content = Path("/proc/self/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in content.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def extend_environment(variables: Mapping[str, str]) -> None:
    """Set variables of this process, for the application that it is about to load."""
    os.environ.update(variables)


def own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The values of the non-empty `APPSRV_*` variables that are settings, by the name of the setting."""
    return {
        _BY_VARIABLE[variable].name: environ[variable]
        for variable in sorted(_BY_VARIABLE.keys() & environ.keys())
        if environ[variable].strip() and foreign_variables.service_of(variable, environ[variable]) is None
    }


def variable_notices(environ: Mapping[str, str]) -> list[str]:
    """One line for each `APPSRV_*` variable that is not a setting. Such a variable has no effect and is no error."""
    services = foreign_variables.services(environ, PREFIX)
    notices = [_service_notice(service, variables) for service, variables in services.items()]
    of_services = {variable for variables in services.values() for variable in variables}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        if variable not in _BY_VARIABLE and variable not in internal_variables.ALL and variable not in of_services:
            nearest = _nearest(variable, _BY_VARIABLE, PREFIX)
            notices.append(f"the variable ${variable} is not a setting and has no effect{nearest}")
    return notices


def _service_notice(service: str, variables: Sequence[str]) -> str:
    name = service.lower().replace("_", "-")
    return (
        f"{listed([f'${variable}' for variable in variables])} describe the service {name} (Kubernetes, or a container "
        "link) and are ignored; enableServiceLinks: false in the pod's specification leaves them out"
    )


def take_variable(name: str) -> str | None:
    """Remove a variable from this process, so that its children do not inherit it; returns the value or None."""
    return os.environ.pop(name, None)


@dataclass(frozen=True)
class LoadedSettings:
    """The settings and where each value comes from; None and the reasons if there are errors."""

    settings: Settings | None
    origins: Mapping[str, SettingOrigin]
    errors: tuple[SettingsError, ...] = ()


Layer = dict[str, Given]
"""The settings of one source, by name."""


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    directory: Path,
    *,
    defaults: Mapping[str, object] | None = None,
    cwd: Path | None = None,
    without: Iterable[str] = (),
) -> Settings:
    """The settings of an instance for the project in `directory`. Raises the first `SettingsError`; see `read`."""
    loaded = read(flags, environ, directory, defaults=defaults, cwd=cwd, without=without)
    if loaded.settings is None:
        raise loaded.errors[0]
    return loaded.settings


def read(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    directory: Path,
    *,
    defaults: Mapping[str, object] | None = None,
    cwd: Path | None = None,
    without: Iterable[str] = (),
) -> LoadedSettings:
    """The settings of an instance for the project in `directory`, or all errors in their sources.

    A later source wins: the table's defaults, the platform's variables (`_apply_platform_variables`), `defaults`
    (parsed values of a command with defaults of its own), `[tool.appsrv]` of pyproject.toml, appsrv.toml, the
    `APPSRV_*` variables of `environ`, and `flags` (by field name; None: not given). The settings named in `without`
    keep the table's defaults. A relative path in a file is relative to the directory of the file, any other one to
    `cwd` (None: the current directory).
    """
    base, errors = cwd or Path.cwd(), Errors()
    chosen = {name: Given(value, COMMAND) for name, value in (defaults or {}).items()}
    for file in files.files_of(directory):
        with errors.collected():
            _overlay(chosen, _file_values(file, files.table_of(file), errors))
    _overlay(chosen, _variable_layer(environ, base, errors))
    _overlay(chosen, _flag_layer(flags, base, errors))
    for name in without:
        chosen.pop(name, None)
    _apply_platform_variables(chosen, environ, errors)
    return _loaded(chosen, errors)


class Errors(list[SettingsError]):
    """The errors in the sources of settings, in the order in which they were found."""

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Add a `SettingsError` of this context instead of raising it."""
        try:
            yield
        except SettingsError as error:
            self.append(error)

    def raise_first(self) -> None:
        """Raise the first error, if there is one."""
        if self:
            raise self[0]


def _loaded(chosen: Layer, errors: Errors) -> LoadedSettings:
    origins = {name: given.origin for name, given in chosen.items()}
    if errors:
        return LoadedSettings(None, origins, tuple(errors))
    values: dict[str, Any] = {name: given.value for name, given in chosen.items()}
    settings = _resolve_auto(Settings(**values))
    wrong = tuple(with_origins(error, origins) for error in contradictions(settings))
    return LoadedSettings(None if wrong else settings, origins, wrong)


def with_origins(error: SettingsError, origins: Mapping[str, SettingOrigin]) -> SettingsError:
    """The error with the origins of its settings, as far as they are not defaults."""
    known = {name: files.located(origins[name]) for name in error.names if name in origins}
    if not known:
        return error
    shown = ", ".join(f"{name}: {origin}" for name, origin in known.items())
    first = next((origin for origin in known.values() if origin.file), DEFAULT)
    return SettingsError(f"{error} ({shown})", names=error.names, file=first.file, line=first.line)


def overlaid(settings: Settings, *layers: Mapping[str, object]) -> Settings:
    """These settings with the values of each layer in turn; a later layer wins. Raises `SettingsError`."""
    changes: dict[str, Any] = {}
    for layer in layers:
        changes.update(layer)
    changed = _resolve_auto(dataclasses.replace(settings, **changes))
    for error in contradictions(changed):
        raise error
    return changed


def _resolve_auto(settings: Settings) -> Settings:
    """The settings with `max_pool_size = auto` replaced by a number; other settings with `auto` depend on the load."""
    if settings.max_pool_size == parsers.AUTO:
        workers = cpus.workers_for(cpus.of_this_process(), several_at_a_time=settings.concurrency > 1)
        settings = dataclasses.replace(settings, max_pool_size=max(workers, settings.min_instances))
    return settings


def _apply_platform_variables(chosen: Layer, environ: Mapping[str, str], errors: Errors) -> None:
    """Use the variables of hosting platforms where no other source has set the setting.

    $PORT also sets the address to 0.0.0.0. $WEB_CONCURRENCY is the number of workers. $FORWARDED_ALLOW_IPS is the
    variable of gunicorn and uvicorn.
    """
    without_address = not {"port", "socket"} & chosen.keys()
    for variable, name in PLATFORM_VARIABLES.items():
        value, origin = environ.get(variable, "").strip(), SettingOrigin("variable", variable)
        if value and (without_address if name == "port" else name not in chosen):
            with errors.collected():
                chosen[name] = Given(_parsed(name, value, f"${variable}"), origin)
            if name == "port":
                chosen.setdefault("address", Given("0.0.0.0", origin))


def _overlay(chosen: Layer, layer: Layer) -> None:
    """Apply a layer to the chosen values.

    A unix socket and an address with a port exclude each other, so either one in a later source removes the other.
    """
    if "socket" in layer:
        chosen.pop("address", None)
        chosen.pop("port", None)
    elif "address" in layer or "port" in layer:
        chosen.pop("socket", None)
    chosen.update(layer)


def file_layer(file: Path, table: Mapping[str, object], entry: int | None = None) -> Layer:
    """The settings in a table of this file; relative paths are relative to the file's directory.

    `entry`: the number of the entry of `[[apps]]` that the table is. Raises the first `SettingsError`.
    """
    errors = Errors()
    layer = _file_values(file, table, errors, entry)
    errors.raise_first()
    return layer


def values_of(layer: Layer) -> dict[str, object]:
    """The values without their origins."""
    return {name: given.value for name, given in layer.items()}


def _file_values(file: Path, table: Mapping[str, object], errors: Errors, entry: int | None = None) -> Layer:
    layer: Layer = {}
    prefix: tuple[str | int, ...] = () if entry is None else (files.APPS, entry - 1)
    for key, value in table.items():
        name = key.replace("-", "_")
        if name == files.APPS:
            # The applications are not settings of the instance; `apps.hosting` reads them.
            continue
        origin = SettingOrigin("file", key, str(file), (*prefix, key))
        with errors.collected():
            layer[name] = Given(_from_file(name, value, origin, entry), origin)
    with errors.collected():
        _one_way_to_listen(layer, str(file))
    return layer


def _from_file(name: str, value: object, origin: SettingOrigin, entry: int | None) -> object:
    """The parsed value of a key. Raises `SettingsError` with its place; only then its line is looked up."""
    try:
        if name not in BY_NAME:
            raise SettingsError(f"unknown setting {origin.name!r}{_nearest(name, BY_NAME)}")
        return _parsed(name, value, origin.name, Path(origin.file).parent)
    except SettingsError as error:
        where = files.located(origin)
        number = "" if entry is None else f"[[apps]] number {entry}: "
        raise SettingsError(f"{where}: {number}{error}", names=(name,), file=where.file, line=where.line) from None


def _variable_layer(environ: Mapping[str, str], base: Path, errors: Errors) -> Layer:
    layer: Layer = {}
    for name, value in own_variables(environ).items():
        variable = BY_NAME[name].variable
        with errors.collected():
            layer[name] = Given(_parsed(name, value, f"${variable}", base), SettingOrigin("variable", variable))
    with errors.collected():
        _one_way_to_listen(layer, f"the {PREFIX}* variables")
    return layer


def _flag_layer(flags: Mapping[str, object], base: Path, errors: Errors) -> Layer:
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    layer: Layer = {}
    for name, value in given.items():
        with errors.collected():
            if name not in BY_NAME:
                raise SettingsError(f"unknown setting {name!r}{_nearest(name, BY_NAME)}")
            flag = BY_NAME[name].long_flag
            layer[name] = Given(_parsed(name, value, flag, base), SettingOrigin("flag", flag))
    with errors.collected():
        _one_way_to_listen(layer, "the command line")
    return layer


def _parsed(name: str, value: object, source: str, base: Path | None = None) -> object:
    row = BY_NAME[name]
    try:
        parsed = row.kind.parse(value)
    except ValueError as error:
        shown = json.dumps(value, default=str, ensure_ascii=False)
        raise SettingsError(f"{source}: {error}, not {shown}", names=(name,)) from None
    return parsed if base is None else row.kind.absolute(parsed, base)


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint at the most similar known name. All names begin with `prefix`, so the comparison leaves it out."""
    import difflib  # Imported here, because only a mistyped name needs it.

    rests = [each.removeprefix(prefix) for each in known]
    close = difflib.get_close_matches(name.removeprefix(prefix), rests, n=1, cutoff=0.5)
    return f" (did you mean {prefix + close[0]!r}?)" if close else ": appsrv start --help shows them all"


def _one_way_to_listen(layer: Layer, source: str) -> None:
    rivals = sorted({"address", "port"} & layer.keys())
    if "socket" in layer and rivals:
        where = files.located(layer["socket"].origin)
        raise SettingsError(
            f"{where if where.file else source}: socket and {rivals[0]} exclude each other: give one of them",
            names=("socket", rivals[0]), file=where.file, line=where.line,
        )
