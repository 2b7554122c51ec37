"""Reads the values of the settings from their sources: defaults, files, variables, flags; a later source wins.

Only this module reads the process's environment. The settings themselves are in `table`. Neither module knows the code
that uses a setting.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appsrv.errors import SettingsError
from appsrv.settings import foreign_variables, internal_variables, parsers
from appsrv.settings.row import PREFIX
from appsrv.settings.table import ROWS, Settings
from appsrv.system import cpus
from appsrv.system.words import listed

# The key of appsrv.toml for the array of applications, `[[apps]]`.
APPS = "apps"

_BY_NAME = {row.name: row for row in ROWS}
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
            notices.append(f"the variable ${variable} is no setting and has no effect{nearest}")
    return notices


def _service_notice(service: str, variables: Sequence[str]) -> str:
    name = service.lower().replace("_", "-")
    return (
        f"{listed([f'${variable}' for variable in variables])} tell of the service {name} (Kubernetes, or a container "
        "link) and are ignored; enableServiceLinks: false in the pod's specification leaves them out"
    )


def take_variable(name: str) -> str | None:
    """Remove a variable from this process, so that its children do not inherit it; returns the value or None."""
    return os.environ.pop(name, None)


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    directory: Path,
    *,
    defaults: Mapping[str, object] | None = None,
    cwd: Path | None = None,
    without: Iterable[str] = (),
) -> Settings:
    """The settings of an instance for the project in `directory`. Raises `SettingsError`.

    A later source wins: the table's defaults, the platform's variables (`_apply_platform_variables`), `defaults`
    (parsed values of a command with defaults of its own), `[tool.appsrv]` of pyproject.toml, appsrv.toml, the
    `APPSRV_*` variables of `environ`, and `flags` (by field name; None: not given). The settings named in `without`
    keep the table's defaults. A relative path in a file is relative to the directory of the file, any other one to
    `cwd` (None: the current directory).
    """
    base = cwd or Path.cwd()
    chosen = dict(defaults or {})
    for layer in (*_file_layers(directory), _variable_layer(environ, base), _flag_layer(flags, base)):
        _overlay(chosen, layer)
    for name in without:
        chosen.pop(name, None)
    _apply_platform_variables(chosen, environ)
    return _checked(_resolve_auto(Settings(**chosen)))  # type: ignore[arg-type]


def overlaid(settings: Settings, *layers: Mapping[str, object]) -> Settings:
    """These settings with the values of each layer in turn; a later layer wins. Raises `SettingsError`."""
    changes: dict[str, object] = {}
    for layer in layers:
        changes.update(layer)
    return _checked(_resolve_auto(dataclasses.replace(settings, **changes)))  # type: ignore[arg-type]


def _resolve_auto(settings: Settings) -> Settings:
    """The settings with `max_pool_size = auto` replaced by a number; other settings with `auto` depend on the load."""
    if settings.max_pool_size == parsers.AUTO:
        workers = cpus.workers_for(cpus.of_this_process(), several_at_a_time=settings.concurrency > 1)
        settings = dataclasses.replace(settings, max_pool_size=max(workers, settings.min_instances))
    return settings


def _apply_platform_variables(chosen: dict[str, object], environ: Mapping[str, str]) -> None:
    """Use the variables of hosting platforms where no other source has set the setting.

    $PORT also sets the address to 0.0.0.0. $WEB_CONCURRENCY is the number of workers. $FORWARDED_ALLOW_IPS is the
    variable of gunicorn and uvicorn.
    """
    port, processes = environ.get("PORT", "").strip(), environ.get("WEB_CONCURRENCY", "").strip()
    if port and not {"port", "socket"} & chosen.keys():
        chosen["port"] = _parsed("port", port, "$PORT")
        chosen.setdefault("address", "0.0.0.0")
    if processes and "max_pool_size" not in chosen:
        chosen["max_pool_size"] = _parsed("max_pool_size", processes, "$WEB_CONCURRENCY")
    proxies = environ.get("FORWARDED_ALLOW_IPS", "").strip()
    if proxies and "forwarded_allow_ips" not in chosen:
        chosen["forwarded_allow_ips"] = _parsed("forwarded_allow_ips", proxies, "$FORWARDED_ALLOW_IPS")


def _overlay(chosen: dict[str, object], layer: Mapping[str, object]) -> None:
    """Apply a layer to the chosen values.

    A unix socket and an address with a port exclude each other, so either one in a later source removes the other.
    """
    if "socket" in layer:
        chosen.pop("address", None)
        chosen.pop("port", None)
    elif "address" in layer or "port" in layer:
        chosen.pop("socket", None)
    chosen.update(layer)


def _file_layers(directory: Path) -> list[dict[str, object]]:
    return [file_layer(file, table) for file, table in tables(directory)]


def tables(directory: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The tables of settings in the files of a directory, each with the path of its file; the later one wins."""
    project, own = directory / "pyproject.toml", directory / "appsrv.toml"
    return [(project, _table(read_toml(project), project)), (own, read_toml(own))]


def read_toml(file: Path) -> dict[str, Any]:
    """The content of a TOML file; empty if there is no such file. Raises `SettingsError`."""
    try:
        if file.exists() and not file.is_file():
            # Opening a FIFO would block until a process opens it for writing (fifo(7)).
            raise SettingsError(f"{file} cannot be read: it is no file")
        content = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    # Imported here, because most projects have no such file. Python 3.10 has no `tomllib`.
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        parsed: dict[str, Any] = tomllib.loads(content)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}{_hint(content)}") from None
    return parsed


def _hint(content: str) -> str:
    """A hint for several `[apps]` tables in single brackets: the parser reports only a duplicate table."""
    several = content.count(f"[{APPS}]") - content.count(f"[[{APPS}]]") > 1
    return f"; each application begins with [[{APPS}]], in double brackets" if several else ""


def _table(content: dict[str, Any], file: Path) -> dict[str, Any]:
    tool = content.get("tool", {})
    table = tool.get("appsrv", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: tool.appsrv has to be a table: [tool.appsrv]")
    return table


def file_layer(file: Path, table: Mapping[str, object], where: str | None = None) -> dict[str, object]:
    """The settings in a table of this file; relative paths are relative to the file's directory.

    `where`: the name of the table in error messages; by default the path of the file. Raises `SettingsError`.
    """
    where = where or str(file)
    layer: dict[str, object] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name == APPS:
            # The applications are not settings of the instance; `apps.hosting` reads them.
            continue
        if name not in _BY_NAME:
            raise SettingsError(f"{where}: unknown setting {key!r}{_nearest(name, _BY_NAME)}")
        layer[name] = _parsed(name, value, f"{where}: {key}", file.parent)
    return _one_way_to_listen(layer, where)


def _variable_layer(environ: Mapping[str, str], base: Path) -> dict[str, object]:
    layer = {
        name: _parsed(name, value, f"${_BY_NAME[name].variable}", base)
        for name, value in own_variables(environ).items()
    }
    return _one_way_to_listen(layer, f"the {PREFIX}* variables")


def _flag_layer(flags: Mapping[str, object], base: Path) -> dict[str, object]:
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    for name in given:
        if name not in _BY_NAME:
            raise SettingsError(f"unknown setting {name!r}{_nearest(name, _BY_NAME)}")
    layer = {name: _parsed(name, value, _BY_NAME[name].long_flag, base) for name, value in given.items()}
    return _one_way_to_listen(layer, "the command line")


def _parsed(name: str, value: object, source: str, base: Path | None = None) -> object:
    row = _BY_NAME[name]
    try:
        parsed = row.kind.parse(value)
    except ValueError as error:
        shown = json.dumps(value, default=str, ensure_ascii=False)
        raise SettingsError(f"{source}: {error}, not {shown}") from None
    return parsed if base is None else row.kind.absolute(parsed, base)


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint at the most similar known name. All names begin with `prefix`, so the comparison leaves it out."""
    import difflib  # Imported here, because only a mistyped name needs it.

    rests = [each.removeprefix(prefix) for each in known]
    close = difflib.get_close_matches(name.removeprefix(prefix), rests, n=1, cutoff=0.5)
    return f" (did you mean {prefix + close[0]!r}?)" if close else ": appsrv start --help shows them all"


def _one_way_to_listen(layer: dict[str, object], source: str) -> dict[str, object]:
    rivals = sorted({"address", "port"} & layer.keys())
    if "socket" in layer and rivals:
        raise SettingsError(f"{source}: socket and {rivals[0]} exclude each other: give one of them")
    return layer


def _checked(settings: Settings) -> Settings:
    """These settings, if their values are consistent. Raises `SettingsError`."""
    _check_tls(settings)
    _check_generic(settings)
    if settings.min_instances > settings.max_pool_size:
        raise SettingsError(
            f"min_instances ({settings.min_instances}) is above max_pool_size ({settings.max_pool_size}): "
            "raise --max-pool-size or lower --min-instances"
        )
    if (settings.threads > 1) != (settings.model == "thread"):
        raise SettingsError(
            f"concurrency_model {settings.concurrency_model} and threads {settings.threads} contradict each other: "
            "only the model thread has more than one, and it needs --threads to say how many"
        )
    if settings.probe_path is not None and settings.probe_path == (settings.health_path or "").partition("?")[0]:
        raise SettingsError(
            f"probe_path and health_path are both {settings.probe_path}: appsrv itself answers the first, "
            "the second has to be a path of the application"
        )
    if 0 < settings.hard_memory_limit <= settings.memory_limit:
        raise SettingsError(
            f"hard_memory_limit ({settings.hard_memory_limit}) has to be above memory_limit ({settings.memory_limit})"
        )
    # unix(7): sun_path has 108 bytes, with the final NUL. bind(2) would fail with a message that does not name the
    # path.
    if settings.socket is not None and len(os.fsencode(settings.socket)) > 107:
        raise SettingsError(f"socket: {settings.socket} is too long for a unix socket (107 bytes at most)")
    directory = settings.data_buffer_dir
    if directory is not None and not os.access(directory, os.W_OK | os.X_OK):
        raise SettingsError(f"data_buffer_dir: {directory} is no directory that can be written to")
    return settings


def _check_generic(settings: Settings) -> None:
    """Refuse settings that only a Python application has, beside a `start_command`."""
    if settings.start_command is None:
        return
    for row in ROWS:
        value = getattr(settings, row.name)
        # "gevent" is the concurrency model of the proxy for a `start_command`, so it contradicts nothing.
        if row.python_only and value not in (row.default, "gevent"):
            raise SettingsError(
                f"{row.name} {value} is of no use with a start_command: a worker passes up to max_greenlets requests "
                "at a time to the process that it has started"
            )


def _check_tls(settings: Settings) -> None:
    if settings.ssl_certificate is None:
        for name in ("ssl_certificate_key", "ssl_port"):
            if getattr(settings, name) is not None:
                raise SettingsError(f"{name} is of no use without a certificate: give --ssl-certificate, too")
    elif settings.socket is not None and settings.ssl_port is None:
        raise SettingsError("a unix socket speaks no TLS: give --ssl-port, too, or no certificate")
    if settings.ssl_address is not None and settings.ssl_port is None:
        raise SettingsError("ssl_address is of no use without ssl_port: without that, HTTPS is spoken on --address")
    if settings.ssl_port and settings.ssl_port == settings.port and settings.socket is None:
        raise SettingsError(f"port and ssl_port are both {settings.port}: a port speaks HTTP or HTTPS")
