"""What the server watches of its applications: the restart file, the directory of each, the directory of all.

Knows when to look, and what to call when a look has found a change. How a change shows is known to `restart_file`,
`root_watch` and `apps_directory`; a restart is the server's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

import gevent
from gevent import get_hub

from appsrv.apps.app_group import AppGroup
from appsrv.server.apps_directory import AppsDirectory, changes
from appsrv.server.pool.groups import Groups
from appsrv.server.pool.manager import Manager
from appsrv.server.restart_file import NAME, RestartFile
from appsrv.settings.table import Settings
from appsrv.system import root_watch

log = logging.getLogger("appsrv.server")

Restart = Callable[[Manager], object]


class AppWatch:
    """`stopping` tells whether the server is about to end: then no application is added any more."""

    def __init__(
        self, settings: Settings, groups: Groups, environ: Mapping[str, str], stopping: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._groups = groups
        self._environ = environ
        self._stopping = stopping

    def start(self, restart: Restart) -> None:
        """Watch all there is, in greenlets; `restart` restarts one application."""
        for group in self._groups.values():
            self._watch(group, restart)
        if self._settings.apps_directory is not None:
            directory = AppsDirectory(self._settings, self._environ)
            gevent.spawn(directory.watch, lambda found: self.apps_directory_read(found, restart))

    def _watch(self, group: Manager, restart: Restart) -> None:
        gevent.spawn(self._watch_restart_file, group, restart)
        gevent.spawn(self._watch_root, group)

    def apps_directory_read(self, found: Mapping[str, AppGroup | str], restart: Restart) -> None:
        """Serve the applications that have come to the directory of applications, drop those that have gone."""
        if self._stopping():
            return
        directory = self._settings.apps_directory or ""
        served = {name: manager.group for name, manager in self._groups.items()}
        from_directory = {name: group for name, group in served.items() if os.path.dirname(name) == directory}
        others = [group for name, group in served.items() if name not in from_directory]
        change = changes(from_directory, found, others)
        for name in change.gone:
            self._groups.drop(name)
        for group in change.new:
            log.info("%s is served from now on", group.name)
            self._watch(self._groups.add(group), restart)
        problems = {name: why for name, why in change.problems.items() if name not in self._groups}
        self._groups.report_problems(problems)

    def _watch_restart_file(self, group: Manager, restart: Restart) -> None:
        file = RestartFile(group.settings.restart_file or os.path.join(group.group.spec.root, NAME))
        always = os.path.join(os.path.dirname(file.path), "always_restart.txt")
        if os.path.exists(always):
            log.warning("%s is not heeded: touch %s to restart", always, file.path)

        def touched() -> None:
            log.info("%s was touched", file.path)
            restart(group)

        file.watch(touched, until=lambda: group not in self._groups.all())

    def _watch_root(self, group: Manager) -> None:
        """Log that the directory of an application has gone or was replaced, before a restart fails because of it."""
        watch = root_watch.RootWatch(group.group.spec.root)
        while group in self._groups.all():
            gevent.sleep(root_watch.CHECK_INTERVAL_SECONDS)
            # In a thread: a network file system that hangs must not hold up the server.
            line = get_hub().threadpool.apply(watch.check, (group.preloaders.loaded_from,))
            if line is not None:
                log.warning("%s", line)
