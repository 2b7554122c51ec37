"""The application groups that an instance serves: those of its start, and those found in the directory of applications.

Keeps a record of each (`child_records`), with its user, its log and its directories. Starts no process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from appsrv.apps.app_group import AppGroup
from appsrv.apps.hosting import is_app_of
from appsrv.errors import AppsrvError
from appsrv.logs.server_log import ServerLog
from appsrv.settings.table import Settings
from appsrv.system.users import Identity, check_readable, identity_of, user_of_owner
from appsrv.watchdog.child_records import GroupRecord
from appsrv.watchdog.resources import Resources


class ServedGroups:
    """The records by name, in the order in which the groups were added."""

    def __init__(
        self, groups: Iterable[AppGroup], *, identities: Mapping[str, Identity | None], settings: Settings,
        resources: Resources,
    ) -> None:
        """`settings` are those of the instance; `resources` are open, so that each of `groups` has its log."""
        self._settings = settings
        self._resources = resources
        self._records: dict[str, GroupRecord] = {}
        for group in groups:
            self._add(group, identities[group.name], resources.logs.of_group[group.name])

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[GroupRecord]:
        return iter(self._records.values())

    def get(self, name: str) -> GroupRecord | None:
        """The record of this group; None when it is not served."""
        return self._records.get(name)

    def add_found(self, group: AppGroup) -> None:
        """Serve a group that the server has found in the directory of applications, unless it must not be served.

        The server runs as another user and could name any directory and any user. So the place is checked here, and
        the user is chosen here: the one of the settings, else the owner of the directory.
        """
        log = self._resources.log
        if not is_app_of(group, self._settings.apps_directory):
            log.event(logging.ERROR, f"{group.name} is not in apps_directory and not served")
            return
        try:
            user = user_of_owner(self._settings.user, group.name)
            group = replace(group, settings=replace(group.settings, user=user, group=self._settings.group))
            identity = identity_of_group(group)
        except (AppsrvError, OSError) as error:
            log.event(logging.ERROR, f"{group.name} is not served: {error}")
            return
        self._add(group, identity, self._resources.logs.open_for(group, identity))

    def remove(self, name: str) -> None:
        """Stop serving a group whose processes have ended; close its log unless another group uses it, too."""
        record = self._records.pop(name, None)
        if record is None:
            # `add_found` has refused it and has written the reason to the log.
            return
        self._resources.forget_group(name)
        if not any(log is record.log for log in self.logs()):
            record.log.close()

    def logs(self) -> list[ServerLog]:
        """The logs of the instance and of all groups, each of them once."""
        logs = (self._resources.log, *(record.log for record in self))
        return list({id(log): log for log in logs}.values())

    def reopen_logs(self) -> None:
        """Open all logs again under their names; logrotate(8) has renamed the files."""
        for log in self.logs():
            log.reopen()
        self._resources.log.event(logging.INFO, "the server log was opened again")

    def _add(self, group: AppGroup, identity: Identity | None, log: ServerLog) -> None:
        multiproc = self._resources.multiproc_directory(group, identity)
        self._records[group.name] = GroupRecord(group, identity, log, multiproc)


def identity_of_group(group: AppGroup) -> Identity | None:
    """The user that the processes of a group run as; None: the watchdog's own. Raises an AppsrvError."""
    identity = identity_of(group.settings.user, group.settings.group)
    if identity is not None:
        check_readable(identity, group.spec.root)
    return identity
