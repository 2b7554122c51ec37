"""The directory of applications while an instance runs: looks again and again which there are, says what has changed.

Decides by what the files say (`hosting`); who serves or drops an application is the server's business.
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
    """What is to be served from now on, what no more (by name), and why others are not served.

    An application that is in both has other settings than before.
    """

    new: tuple[AppGroup, ...] = ()
    gone: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)


def changes(
    served: Mapping[str, AppGroup], looked: Mapping[str, AppGroup | str], others: Iterable[AppGroup]
) -> Changes:
    """From what is served of the directory to what a look has shown. `others`: applications that are not from there."""
    gone = [name for name, group in served.items() if looked.get(name) != group]
    staying = [*others, *(group for name, group in served.items() if name not in gone)]
    new: list[AppGroup] = []
    problems: dict[str, str] = {}
    for name, result in looked.items():
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
        """Look each second, for ever, and report what is there, by name: the application, or why it is none."""
        while True:
            gevent.sleep(SCAN_SECONDS)
            # In a thread: many files, perhaps on a file system that hangs, must not hold up the server.
            looked = get_hub().threadpool.apply(self.look)
            if looked is not None:
                self._report(report, looked)

    def _report(self, report: Report, looked: Mapping[str, AppGroup | str]) -> None:
        try:
            report(looked)
        except OSError as error:
            # Out of descriptors, say: what could not be served is there at the next look, too.
            log.error("the applications of %s cannot all be served: %s", self._settings.apps_directory, error)

    def look(self) -> dict[str, AppGroup | str] | None:
        """What is there now; None when the directory itself cannot be read, which is no reason to drop all."""
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
    """Changes when what is read of an application that is served may have changed, or whose it is."""
    directory = _stat(place)
    which = (directory.st_dev, directory.st_ino, directory.st_uid) if directory is not None else None
    files = (_stat(place / name) for name in ("appsrv.toml", "pyproject.toml"))
    return which, *((found.st_mtime_ns, found.st_ino) if found is not None else None for found in files)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
