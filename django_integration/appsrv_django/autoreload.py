"""Watching for changes as Django does, with its reloader and its signals; a change is reported, not acted on.

Runs in a worker, so that receivers of `file_changed` (templates, translations, django-browser-reload) act on
the memory of the process that serves. Where Django could not be set up it runs in the preloader instead.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from django.utils import autoreload

from appsrv import reloader
from appsrv_django.hook import STARTED

logger = logging.getLogger("django.utils.autoreload")

Report = Callable[[list[str]], None]


class WatchfilesReloader(autoreload.BaseReloader):
    """Django's reloader with the system reporting the changes."""

    def run_loop(self) -> None:
        """Watch until somebody stops it."""
        reloader.watch(self._files, self._notify, stop=cast(Any, self)._stop_condition)
        self.stop()

    def _files(self) -> list[str]:
        return [str(path) for path in self.watched_files()]

    def _notify(self, paths: list[str]) -> bool:
        for path in paths:
            self.notify_file_changed(Path(path))
        return self.should_stop


def get_reloader() -> autoreload.BaseReloader:
    """Django's choice, or that of a package that replaced it; watchfiles instead of comparing files."""
    found = autoreload.get_reloader()
    if type(found) is autoreload.StatReloader and reloader.has_watchfiles():
        return WatchfilesReloader()
    return found


def announce() -> None:
    """The first line of Django's runserver with reloading."""
    logger.info("Watching for file changes with %s", type(get_reloader()).__name__)


class Watch:
    """What a worker runs in a thread of its own to learn about changes."""

    def __init__(self, error: BaseException | None = None) -> None:
        """`error`: why the application could not be loaded; its files are watched too."""
        self._error = error

    def __call__(self, report: Report) -> None:
        """`report` the first change that no receiver of `file_changed` took care of, then return."""
        found = get_reloader()
        _report_instead_of_exit(found, report)
        if self._error is None:
            _notify_missed(found)
            # A thread that never ran tells Django that nothing has to be waited for.
            found.run(threading.Thread())
            return
        found.extra_files.update(map(Path, reloader.traceback_files(self._error)))
        # Receivers read settings, which may be what is broken.
        autoreload.autoreload_started.send_robust(sender=found)
        _notify_missed(found)
        found.run_loop()


def _report_instead_of_exit(found: autoreload.BaseReloader, report: Report) -> None:
    def notify_file_changed(path: Path) -> None:
        answers = autoreload.file_changed.send(sender=found, file_path=path)
        if found.should_stop or any(answer for _, answer in answers):
            return
        logger.info("%s changed, reloading.", path)
        reloader.forget_compiled(str(path))
        found.stop()
        report([str(path)])

    found.notify_file_changed = notify_file_changed  # type: ignore[method-assign,assignment]


def _notify_missed(found: autoreload.BaseReloader) -> None:
    """Tell what was saved between the start of this process and now, which no reloader can see."""
    files = [str(path) for path in found.watched_files(include_globs=False)]
    for path in reloader.Snapshot(files).missed(since=STARTED):
        found.notify_file_changed(Path(path))
