"""Watches for changes with Django's reloader and its signals. It reports changes and restarts nothing.

It runs in a worker, so that the receivers of `file_changed` (templates, translations, django-browser-reload) act on the
memory of the serving process. Other workers and the preloader get the changed paths from it and call the receivers,
too. If Django could not be set up, it runs in the preloader instead.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from django.utils import autoreload

from appsrv.app_process import own_lines
from appsrv.development import reloader
from appsrv_django import hook

logger = logging.getLogger("django.utils.autoreload")

Report = Callable[[list[str]], None]


class _Watching(autoreload.BaseReloader):
    """Django's reloader, which knows the files, with appsrv's detection of changes."""

    suspects: frozenset[str] = frozenset()
    """Files that prevented the loading of the application."""

    def run_loop(self) -> None:
        """Watch until `stop` is called. Files that were saved while Django was loading count as changed."""
        stop = cast(Any, self)._stop_condition
        reloader.watch(self._files, self._notify, stop=stop, since=hook.STARTED, suspects=self.suspects)
        self.stop()

    def _files(self) -> list[str]:
        return [str(path) for path in self.watched_files()]

    def _notify(self, paths: list[str]) -> bool:
        for path in paths:
            self.notify_file_changed(Path(path))
        return self.should_stop


class WatchfilesReloader(_Watching):
    """The operating system reports the changes. Django prints the name of this class."""


class StatReloader(_Watching, autoreload.StatReloader):
    """Compares the files at intervals, as Django's class of the same name does. Django prints this name."""


def get_reloader() -> autoreload.BaseReloader:
    """The reloader that Django, or a package that replaces it, has chosen; instead of StatReloader one of the above."""
    found = autoreload.get_reloader()
    if type(found) is not autoreload.StatReloader:
        return found
    return WatchfilesReloader() if reloader.has_watchfiles() else StatReloader()


def announce() -> None:
    """Log the first line of Django's runserver with reloading."""
    logger.info("Watching for file changes with %s", type(get_reloader()).__name__)


class DjangoFileWatch:
    """The watch for changes; a worker calls it in a thread of its own, until the worker ends."""

    def __init__(self, error: BaseException | None = None) -> None:
        """`error`: the error that prevented the loading of the application; its files are watched, too."""
        self._error = error

    def __call__(self, code_changed: Report, files_changed: Report) -> None:
        """Watch and report changed files; blocks until the process ends.

        Files that a receiver of `file_changed` has handled are reported by `files_changed`, all others by
        `code_changed`.
        """
        found = get_reloader()
        if self._error is None:
            _notify(found, partial(_notify_changed, found, code_changed, files_changed))
            # Django waits until this thread has loaded the application. A thread that never ran is not alive, so Django
            # does not wait.
            found.run(threading.Thread())
        else:
            # No signals are sent, because their receivers read the settings, which may be the broken part.
            files = reloader.traceback_files(self._error) | _settings_file()
            found.extra_files.update(map(Path, files))
            _notify(found, partial(_report_changed, code_changed))
            if isinstance(found, _Watching):
                found.suspects = frozenset(files)
            found.run_loop()

    def forget(self, paths: list[str]) -> None:
        """Call the receivers of `file_changed` in this process, which has its own cache of templates, for example."""
        sender = get_reloader()
        for path in paths:
            autoreload.file_changed.send(sender=sender, file_path=Path(path))


def _notify(found: autoreload.BaseReloader, notify_file_changed: Callable[[Path], None]) -> None:
    """Make a reloader call this function instead of ending the process."""
    found.notify_file_changed = notify_file_changed  # type: ignore[method-assign,assignment]


def _notify_changed(
    found: autoreload.BaseReloader, code_changed: Report, files_changed: Report, path: Path
) -> None:
    if _is_handled(found, path):
        files_changed([str(path)])
    else:
        _report_changed(code_changed, path)


def _is_handled(found: autoreload.BaseReloader, path: Path) -> bool:
    """Whether a receiver has handled the change.

    An error in a receiver must not end the watch. It counts as not handled, so the process is replaced by one without
    the old file in memory.
    """
    try:
        return any(answer for _, answer in autoreload.file_changed.send(sender=found, file_path=path))
    except Exception as error:
        own_lines.write_traceback(error)
        return False


def _report_changed(report: Report, path: Path) -> None:
    logger.info("%s changed, reloading.", path)
    reloader.forget_compiled(str(path))
    report([str(path)])


def _settings_file() -> set[str]:
    """The file of the settings module; a traceback does not contain it if a second import of it has succeeded."""
    module = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    path = getattr(module, "__file__", None)
    return {os.path.abspath(path)} if path else set()
