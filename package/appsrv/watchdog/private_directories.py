"""Directories that an application's user can reach and no other user can: metrics of its own, sockets of its processes.

Knows paths and their owners, not what is written there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from appsrv.apps.app_group import AppGroup
from appsrv.system.users import Identity, acting_as


class PrivateDirectories:
    """Made when they are asked for first; `remove` and `remove_all` delete them with all that is in them."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        # By prefix, name of the group, and owner: a directory of applications may be given to another user.
        self._paths: dict[tuple[str, str, Identity | None], str] = {}

    def path_of(self, prefix: str, group: AppGroup, identity: Identity | None) -> str:
        """The directory of this group whose name begins with `prefix`; made when it is not there yet."""
        key = (prefix, group.name, identity)
        if key not in self._paths:
            self._paths[key] = self._make(prefix, identity)
        return self._paths[key]

    def restore(self) -> None:
        """Make those again that were removed together with the run directory."""
        for (_, _, identity), path in self._paths.items():
            if identity is None:
                os.makedirs(path, mode=0o700, exist_ok=True)

    def remove(self, name: str) -> None:
        """Remove the directories of the group of this name, which has ended."""
        for key in [key for key in self._paths if key[1] == name]:
            # As their owner: what that user has put there, a link for example, must not have root delete other files.
            with acting_as(key[2]):
                shutil.rmtree(self._paths.pop(key), ignore_errors=True)

    def remove_all(self) -> None:
        """Remove the directories of all groups."""
        for name in {name for _, name, _ in self._paths}:
            self.remove(name)

    def _make(self, prefix: str, identity: Identity | None) -> str:
        # Few instances need such directories, and the import takes a millisecond of each start.
        import tempfile

        if identity is None:
            return tempfile.mkdtemp(prefix=prefix, dir=self._run_directory)
        # Another user cannot enter the run directory, so the directory is made in the one for temporary files. Its
        # random name cannot be created in advance by an attacker.
        made = tempfile.mkdtemp(prefix=f"appsrv-{prefix}")
        os.chown(made, identity.uid, identity.gid)
        return made
