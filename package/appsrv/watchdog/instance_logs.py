"""The server logs of an instance: where they are kept, and which of them are one and the same.

Chooses files and opens them as their owners. What is written there is known to `logs`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from appsrv.apps.app_group import AppGroup
from appsrv.errors import RunDirectoryError
from appsrv.logs.log_format import PLAIN, TEXT
from appsrv.logs.server_log import ServerLog
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.table import Settings
from appsrv.system.users import Identity, acting_as
from appsrv.system.words import wants_colour

Place = tuple[Path, Identity | None]
"""A file for the log and its owner."""


class InstanceLogs:
    """`main` is the log of the instance, `of_group` those of its groups by their names."""

    main: ServerLog

    def __init__(
        self, settings: Settings, identity: Identity | None, environ: Mapping[str, str], *, development: bool
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._environ = environ
        self._development = development
        self._terminal: TextIO | None = None
        # The user that each log in `of_group` was opened for.
        self._identities: dict[str, Identity | None] = {}
        self.of_group: dict[str, ServerLog] = {}

    def open_main(self, terminal: TextIO | None, places: Iterable[Place]) -> str | None:
        """Open the log of the instance: at the place of the setting, else at the first of `places` that can be written.

        Returns why it is at another than the first place, as a line for the log. Raises RunDirectoryError. `terminal`
        shows all lines, too.
        """
        self._terminal = terminal
        if self._settings.log_file is not None:
            self.main = self._open(self._settings.log_file, self._identity)
            return None
        first = ""
        for path, owner in places:
            try:
                self.main = self._open(str(path), owner)
            except RunDirectoryError as error:
                first = first or str(error)
                continue
            shown = "not kept in a file" if self.main.path == NO_FILE else self.main.path
            return f"the server log is {shown}: {first}" if first else None
        raise RunDirectoryError(first)

    def open_for(self, group: AppGroup, identity: Identity | None) -> ServerLog:
        """Open the log for the output of a group, and keep it in `of_group`. One of several groups may have its own.

        A log that cannot be written must not harm the other groups: then the lines go to the log of the instance.
        Groups share an open log only if they have the same user, since no user may write to the log of another one.
        """
        log = self._log_for(group, identity)
        self._identities[group.name] = identity
        self.of_group[group.name] = log
        return log

    def forget(self, name: str) -> None:
        """The group of this name is not served any more. The caller closes its log."""
        self.of_group.pop(name, None)

    def _log_for(self, group: AppGroup, identity: Identity | None) -> ServerLog:
        path = group.settings.log_file
        if path is None:
            return self.main
        known = {log.path: log for name, log in self.of_group.items() if self._identities[name] == identity}
        if identity == self._identity:
            known[self.main.path] = self.main
        try:
            return known.get(path) or self._open(path, identity, blocks=False)
        except RunDirectoryError as error:
            self.main.event(logging.WARNING, f"{group.name}: {error}; until then its lines are here")
            return self.main

    def _open(self, path: str, identity: Identity | None, *, blocks: bool = True) -> ServerLog:
        settings, terminal = self._settings, self._terminal
        return ServerLog(
            path, settings.log_level, terminal, form=settings.log_format or TEXT,
            shown=settings.log_format or (PLAIN if self._development else TEXT), quiet=self._development,
            colour=terminal is not None and wants_colour(self._environ, terminal.isatty()),
            owner=lambda: acting_as(identity), blocks=blocks,
        )
