"""The directory of applications while an instance runs: reads it each second, and finds what has changed.

What is an application is decided by its files (`hosting`). The server serves and drops applications.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gevent
from gevent import get_hub

from appsrv.apps import hosting
from appsrv.apps.app_group import AppGroup
from appsrv.errors import SettingsError
from appsrv.settings.table import Settings

log = logging.getLogger("appsrv.apps")

SCAN_SECONDS = 1.0

Report = Callable[[Mapping[str, AppGroup | str]], None]
Signature = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Changes:
    """The applications to serve from now on, those to drop (by name), and why others are not served.

    An application in both has other settings than before.
    """

    new: tuple[AppGroup, ...] = ()
    gone: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)


def changes(
    served: Mapping[str, AppGroup], found: Mapping[str, AppGroup | str], others: Iterable[AppGroup]
) -> Changes:
    """The changes from what is served of the directory to what has been found there.

    `others`: the applications that do not come from the directory.
    """
    gone = [name for name, group in served.items() if found.get(name) != group]
    staying = [*others, *(group for name, group in served.items() if name not in gone)]
    new: list[AppGroup] = []
    problems: dict[str, str] = {}
    for name, result in found.items():
        if isinstance(result, str):
            problems[name] = result
        elif name not in served or name in gone:
            clash = hosting.conflict_of(result, [*staying, *new])
            if clash is None:
                new.append(result)
            else:
                problems[name] = clash
    return Changes(tuple(new), tuple(gone), problems)


class AppsDirectory:
    """Watches `settings.apps_directory`."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._known: dict[Path, tuple[Signature, AppGroup]] = {}
        self._unreadable = ""

    def watch(self, report: Report) -> None:
        """Read the directory each second, without end, and report what it holds, by name: the application, or why it is
        none.
        """
        while True:
            gevent.sleep(SCAN_SECONDS)
            # In a thread: these are many files, perhaps on a network file system that hangs, and must not hold up the
            # server.
            found = get_hub().threadpool.apply(self.scan)
            if found is not None:
                self._report(report, found)

    def _report(self, report: Report, found: Mapping[str, AppGroup | str]) -> None:
        try:
            report(found)
        except OSError as error:
            # The process is out of descriptors, for example. The next look finds again what could not be served.
            log.error("the applications of %s cannot all be served: %s", self._settings.apps_directory, error)

    def scan(self) -> dict[str, AppGroup | str] | None:
        """What the directory holds now; None when it cannot be read, which is no reason to drop all applications."""
        try:
            places = hosting.app_directories(self._settings.apps_directory)
        except SettingsError as error:
            if str(error) != self._unreadable:
                log.error("%s; what is served goes on", error)
            self._unreadable = str(error)
            return None
        self._unreadable = ""
        self._known = {place: known for place, known in self._known.items() if place in places}
        return {str(place): self._application(place) for place in places}

    def _application(self, place: Path) -> AppGroup | str:
        signature = _signature(place)
        known = self._known.get(place)
        if known is not None and known[0] == signature:
            return known[1]
        result = hosting.find_app(place, self._settings, self._environ)
        if isinstance(result, AppGroup):
            self._known[place] = signature, result
        return result


def _signature(place: Path) -> Signature:
    """A value that changes when the files of an application, its directory or its owner may have changed."""
    directory = _stat(place)
    which = (directory.st_dev, directory.st_ino, directory.st_uid) if directory is not None else None
    files = (_stat(place / name) for name in ("appsrv.toml", "pyproject.toml"))
    return which, *((found.st_mtime_ns, found.st_ino) if found is not None else None for found in files)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
