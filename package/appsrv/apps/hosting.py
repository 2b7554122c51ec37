"""Several applications in one instance: reads `[[apps]]` of appsrv.toml and the directory of applications.

The result is an `AppGroup` for each application that can be served, and the reason for each one that cannot. An
application with errors does not affect the others. This module reads the projects' files, and imports nothing of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appsrv.apps import finder
from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import is_below
from appsrv.apps.routes import Route, Routes
from appsrv.errors import AppsrvError, SettingsError
from appsrv.instance.run_directory import default_log_file
from appsrv.ipc import message_format
from appsrv.settings import files, parsers, sources
from appsrv.settings.origins import Given, SettingOrigin
from appsrv.settings.table import ROWS, Settings
from appsrv.system.users import user_of_owner

# The keys of an entry of [[apps]] that are not settings.
_ENTRY_KEYS = ("root", "name", "variables")
# Each of these variables names one application. Inherited from the instance's environment, it would name that one for
# every application.
_VARIABLES_OF_ONE_APP = ("DJANGO_SETTINGS_MODULE", "FLASK_APP")
MAX_GROUP_BYTES = message_format.MAX_DATAGRAM_BYTES // 3
"""The longest application in bytes of JSON. The `Configure` for its preloader has the settings twice."""

_PER_APP = frozenset(row.name for row in ROWS if row.per_app)
_OPERATOR_ONLY = frozenset(row.name for row in ROWS if row.operator_only)


@dataclass(frozen=True)
class HostedApps:
    """The applications of an instance. `problems`: the reason for each application that is not served, by its name.

    `origins`: of each application that is served, where those settings come from that are not the instance's.
    """

    groups: tuple[AppGroup, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Mapping[str, SettingOrigin]] = field(default_factory=dict)

    @property
    def routes(self) -> Routes:
        """The route of each group."""
        return routes_of(self.groups)


def routes_of(groups: Iterable[AppGroup]) -> Routes:
    """The routes of these groups."""
    return Routes(Route(group.settings.hosts, group.settings.base_uri, group.name) for group in groups)


def needs_routes(groups: Iterable[AppGroup], settings: Settings) -> bool:
    """Whether host and path of a request decide its application, or whether it has one at all."""
    served = list(groups)
    placed = any(group.settings.hosts or group.settings.base_uri for group in served)
    return len(served) != 1 or placed or settings.apps_directory is not None


def is_hosting(settings: Settings, directory: Path) -> bool:
    """Whether the files of this directory configure several applications."""
    return settings.apps_directory is not None or bool(_entries(directory))


def hosted_apps(settings: Settings, directory: Path, environ: Mapping[str, str]) -> HostedApps:
    """All applications of `[[apps]]` in the files of this directory and of `apps_directory`.

    Raises `SettingsError` for an error in the file itself, such as an unknown key; errors of one application become
    its problem.
    """
    if settings.app is not None:
        raise SettingsError("app stands beside [[apps]] or apps_directory: make it an entry of [[apps]]")
    makers: list[_AppsEntry | _AppDirectory] = [
        *(_AppsEntry(file, number, row, settings, environ) for file, number, row in _entries(directory)),
        *(_AppDirectory(place, settings, environ) for place in app_directories(settings.apps_directory)),
    ]
    served = _without_clashes(made for maker in makers for made in [maker.make()])
    names = {group.name for group in served.groups}
    # The first of several with the same name is served.
    origins = {maker.name: maker.origins for maker in reversed(makers) if maker.name in names}
    return replace(served, origins=origins)


def app_directories(directory: str | None) -> list[Path]:
    """The directories in `apps_directory` that may hold applications, in the order of their names.

    Raises `SettingsError` if the directory cannot be read.
    """
    if directory is None:
        return []
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith((".", "_")))
    except OSError as error:
        raise SettingsError(f"apps_directory {directory} cannot be read: {error.strerror}") from None


def is_app_of(group: AppGroup, directory: str | None) -> bool:
    """Whether the group was found in `apps_directory` (`directory`), and its code lies in its own directory there."""
    spec = group.spec
    # The code of a package lies below its `root`, which is the directory above the package, so its file is compared.
    return os.path.dirname(group.name) == directory and is_below(spec.startup_file or spec.root, group.name)


def find_app(place: Path, settings: Settings, environ: Mapping[str, str]) -> AppGroup | str:
    """The application in one directory of `apps_directory`, or the reason why there is none."""
    return _AppDirectory(place, settings, environ).make()[1]


def _without_clashes(made: Iterable[tuple[str, AppGroup | str]]) -> HostedApps:
    groups: list[AppGroup] = []
    problems: dict[str, str] = {}
    for name, result in made:
        if isinstance(result, str):
            problems[name] = result
            continue
        clash = conflict_of(result, groups)
        if clash is None:
            groups.append(result)
        else:
            problems[_unique_name(name, problems)] = clash
    return HostedApps(tuple(groups), problems)


def conflict_of(group: AppGroup, others: Iterable[AppGroup]) -> str | None:
    """The reason why the group cannot be served beside the others: one has its place or its name. None: it can."""
    served = list(others)
    clashes = routes_of([*served, group]).clashes
    if clashes:
        return f"{clashes[0].place} is {clashes[0].first}'s already: give one of them other hosts or another base_uri"
    if any(other.name == group.name for other in served):
        return f"another application has the name {group.name}: give one of them another name"
    return None


def _unique_name(name: str, taken: Mapping[str, object]) -> str:
    return name if name not in taken else f"{name} (again)"


# -- [[apps]] ----------------------------------------------------------------------------------------------


def _entries(directory: Path) -> list[tuple[Path, int, dict[str, Any]]]:
    rows: list[tuple[Path, int, dict[str, Any]]] = []
    for file, table in files.tables(directory):
        entries = table.get(files.APPS, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise SettingsError(f"{file}: apps has to be a list of tables, each with [[apps]] above it")
        rows += [(file, number, entry) for number, entry in enumerate(entries, 1)]
    return rows


class _AppsEntry:
    """One entry of `[[apps]]`. An unknown key raises `SettingsError`: it is an error of the file."""

    def __init__(
        self, file: Path, number: int, row: dict[str, Any], settings: Settings, environ: Mapping[str, str]
    ) -> None:
        self._where = f"{files.place(file, files.APPS, number - 1)}: [[apps]] number {number}"
        root = row.get("root")
        if not isinstance(root, str) or not root.strip():
            raise SettingsError(f"{self._where}: root is missing, the directory of the application")
        self._root = Path(os.path.abspath(file.parent / os.path.expanduser(root)))
        self._variables = _strings(row.get("variables", {}), f"{self._where}: variables")
        self._name = row.get("name")
        if self._name is not None and not (isinstance(self._name, str) and self._name.strip()):
            raise SettingsError(f"{self._where}: name has to be some text")
        self._layer = _per_app_only(sources.file_layer(file, _without(row, _ENTRY_KEYS), number), self._where)
        self._settings = settings
        self._environ = {**_without(environ, _VARIABLES_OF_ONE_APP), **self._variables}
        self.name = self._name or str(self._root)
        self.origins: Mapping[str, SettingOrigin] = {}

    def make(self) -> tuple[str, AppGroup | str]:
        name = self.name
        if not self._root.is_dir():
            return name, f"no such directory, though {self._where} has it as root"
        try:
            layers = [*_of_project(self._root), self._layer]
            self.origins = _origins(layers)
            settings = _settings(self._settings, layers)
            return name, _group(self._root, settings, name, self._environ, self._variables)
        except AppsrvError as error:
            return name, str(error)


def _strings(table: object, where: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise SettingsError(f"{where} has to be a table of texts")
    return table


def _per_app_only(layer: sources.Layer, where: str) -> sources.Layer:
    foreign = sorted(layer.keys() - _PER_APP)
    if foreign:
        raise SettingsError(f"{where}: {foreign[0]} is a setting of the whole instance: write it above [[apps]]")
    return layer


# -- the directory of applications -------------------------------------------------------------------------


class _AppDirectory:
    """A directory in `apps_directory`. Its files may have the settings of an application, but not `user` and `group`.

    Without `hosts` and `base_uri` in these files the directory's name is the application's place: its host if the name
    contains a dot, else its path.
    """

    def __init__(self, place: Path, settings: Settings, environ: Mapping[str, str]) -> None:
        self._place = place
        self._settings = settings
        self._environ = _without(environ, _VARIABLES_OF_ONE_APP)
        self.name = str(place)
        self.origins: Mapping[str, SettingOrigin] = {}

    def make(self) -> tuple[str, AppGroup | str]:
        name = self.name
        try:
            layers = list(_of_project(self._place))
            if not any({"hosts", "base_uri"} & layer.keys() for layer in layers):
                layers.append(self._by_name())
            self.origins = _origins(layers)
            settings = _settings(self._settings, layers)
            # If root runs the instance, the application runs as the owner of its directory, who has written its code.
            settings = replace(settings, user=user_of_owner(settings.user, name))
            group = _group(self._place, settings, name, self._environ, {})
            if not is_app_of(group, self._settings.apps_directory):
                raise SettingsError(f"{group.app} is not in {name}: let it be an entry of [[apps]]")
            return name, group
        except (AppsrvError, OSError) as error:
            return name, str(error)

    def _by_name(self) -> sources.Layer:
        setting, parse = ("hosts", parsers.hosts) if "." in self._place.name else ("base_uri", parsers.base_uri)
        value = [self._place.name] if setting == "hosts" else f"/{self._place.name}"
        try:
            return {setting: Given(parse(value), SettingOrigin("directory", str(self._place)))}
        except ValueError as error:
            raise SettingsError(f"its name does not say where it is ({error}): set hosts or base_uri") from None


# -- both --------------------------------------------------------------------------------------------------


def _settings(instance: Settings, layers: Iterable[sources.Layer]) -> Settings:
    """The settings of an application: from its own layers, else from the instance, else from the table's defaults.

    An application may lower `max_pool_size`; the instance's value is the upper limit.
    """
    own = [sources.values_of(layer) for layer in layers]
    # The instance's values for Python applications do not apply to an application in another language.
    generic = any(layer.get("start_command") for layer in own)
    defaults = {row.name: row.default for row in ROWS if not row.inherited or (generic and row.python_only)}
    settings = sources.overlaid(instance, defaults, *own)
    most = min(settings.max_pool_size, instance.max_pool_size)
    return sources.overlaid(settings, {"max_pool_size": most})


def _origins(layers: Iterable[sources.Layer]) -> dict[str, SettingOrigin]:
    return {name: given.origin for layer in layers for name, given in layer.items()}


def _of_project(root: Path) -> Iterator[sources.Layer]:
    """The settings in the project's files that are per application; the others apply when it is served alone."""
    for file, table in files.tables(root):
        layer = sources.file_layer(file, table)
        yield {name: given for name, given in layer.items() if name in _PER_APP and name not in _OPERATOR_ONLY}


def _group(
    root: Path, settings: Settings, name: str, environ: Mapping[str, str], variables: Mapping[str, str]
) -> AppGroup:
    spec = finder.find(None, root, environ, settings.app, settings.start_command)
    if settings.log_file is None:
        # The name of this log has no port: all applications of the instance have the same port.
        settings = replace(settings, log_file=str(default_log_file(Path(spec.root), None)))
    group = AppGroup(spec, settings, name, variables)
    length = len(json.dumps(group.to_json()))
    if length > MAX_GROUP_BYTES:
        raise SettingsError(
            f"its settings and variables are {length} bytes long as JSON, more than {MAX_GROUP_BYTES}: "
            "make them shorter"
        )
    return group


def _without(table: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}
