"""Watching for changes as Django does, with its reloader and its signals; a change is reported, not acted on.

Runs in a worker, so that receivers of `file_changed` (templates, translations, django-browser-reload) act on
the memory of the process that serves; where several do, the others and the preloader heed what it saw. Where
Django could not be set up it runs in the preloader instead.
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
    """Django's reloader, which knows the files, on appsrv's way of noticing changes."""

    suspects: frozenset[str] = frozenset()
    """Files that kept the application from being loaded."""

    def run_loop(self) -> None:
        """Watch until somebody stops it; what was saved while Django was loading counts as changed."""
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
    """The system reports changes."""


class StatReloader(_Watching, autoreload.StatReloader):
    """Compares the files once a second, as Django's of this name."""


def get_reloader() -> autoreload.BaseReloader:
    """Django's choice, or that of a package that replaced it; watchfiles instead of comparing files."""
    found = autoreload.get_reloader()
    if type(found) is not autoreload.StatReloader:
        return found
    return WatchfilesReloader() if reloader.has_watchfiles() else StatReloader()


def announce() -> None:
    """The first line of Django's runserver with reloading."""
    logger.info("Watching for file changes with %s", type(get_reloader()).__name__)


class DjangoFileWatch:
    """What a worker runs in a thread of its own to learn about changes, for as long as it lives."""

    def __init__(self, error: BaseException | None = None) -> None:
        """`error`: why the application could not be loaded; its files are watched too."""
        self._error = error

    def __call__(self, code_changed: Report, files_changed: Report) -> None:
        """Tell of `files_changed` that a receiver of `file_changed` took care of, of all others as `code_changed`."""
        found = get_reloader()
        if self._error is None:
            _notify(found, partial(_notify_changed, found, code_changed, files_changed))
            # A thread that never ran tells Django that nothing has to be waited for.
            found.run(threading.Thread())
        else:
            # No signals: their receivers read settings, which may be what is broken.
            files = reloader.traceback_files(self._error) | _settings_file()
            found.extra_files.update(map(Path, files))
            _notify(found, partial(_report_changed, code_changed))
            if isinstance(found, _Watching):
                found.suspects = frozenset(files)
            found.run_loop()

    def forget(self, paths: list[str]) -> None:
        """Call the receivers of `file_changed` here, too: templates, say, are kept by each process for itself."""
        sender = get_reloader()
        for path in paths:
            autoreload.file_changed.send(sender=sender, file_path=Path(path))


def _notify(found: autoreload.BaseReloader, notify_file_changed: Callable[[Path], None]) -> None:
    """Have a reloader call this instead of ending the process."""
    found.notify_file_changed = notify_file_changed  # type: ignore[method-assign,assignment]


def _notify_changed(
    found: autoreload.BaseReloader, code_changed: Report, files_changed: Report, path: Path
) -> None:
    if _taken_care_of(found, path):
        files_changed([str(path)])
    else:
        _report_changed(code_changed, path)


def _taken_care_of(found: autoreload.BaseReloader, path: Path) -> bool:
    """Whether a receiver says so. One that fails must not end the watching: a new process remembers no old file."""
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
    """The settings module, which a traceback does not show when it could be read at the second attempt."""
    module = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    path = getattr(module, "__file__", None)
    return {os.path.abspath(path)} if path else set()
