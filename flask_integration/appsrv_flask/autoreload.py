"""Watches for changes by Werkzeug's rules: its set of files, extra files and exclude patterns, and its log lines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from werkzeug import _reloader
from werkzeug._internal import _log

from appsrv.development import reloader

STARTED = time.time()
"""The approximate time when this command started, or when a standby preloader was needed.

A file that was saved later may have been imported before the save.
"""

Report = Callable[[list[str]], None]


def name() -> str:
    """The name of the reloader in the line "Restarting with ..."."""
    loop = cast(Any, _reloader.reloader_loops["auto"])
    if reloader.has_watchfiles() and loop is _reloader.StatReloaderLoop:
        return "watchfiles"
    return str(loop.name or "watchdog")


class FlaskFileWatch:
    """The watch for changes; a worker calls it in a thread of its own, until the worker ends."""

    def __init__(
        self, extra_files: Iterable[str], exclude_patterns: Iterable[str], error: BaseException | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`error`: the error that prevented the loading of the application; its files are watched, too.

        `on_change`: called at each change.
        """
        broken = reloader.traceback_files(error) if error else set()
        self._extra_files = {*extra_files, *broken}
        self._exclude_patterns = set(exclude_patterns)
        self._on_change = on_change

    def __call__(self, report: Report, _files_changed: Report) -> None:
        """Call `report` for each change; blocks. Flask's template loader checks its files itself."""

        def changed(paths: list[str]) -> bool:
            for path in paths:
                _log("info", f" * Detected change in {path!r}, reloading")
                reloader.forget_compiled(path)
            report(paths)
            if self._on_change is not None:
                self._on_change()
            return False

        if name() in ("stat", "watchfiles"):
            reloader.watch(self._files, changed, since=STARTED)
        else:
            self._run_watchdog(changed)

    def forget(self, paths: list[str]) -> None:
        """Do nothing: Flask keeps no files in memory that would have to be dropped."""

    def _files(self) -> Iterable[str]:
        return _reloader._find_stat_paths(self._extra_files, self._exclude_patterns)

    def _run_watchdog(self, changed: Callable[[list[str]], bool]) -> None:
        """Run Werkzeug's own loop with the package watchdog, changed to report instead of ending the process."""

        def trigger_reload(_: Any, filename: str | bytes) -> None:
            changed([os.fsdecode(filename)])

        base = _reloader.reloader_loops["auto"]
        kind = cast(Any, type("Loop", (base,), {"trigger_reload": trigger_reload}))
        with kind(self._extra_files, self._exclude_patterns) as running:
            while True:
                time.sleep(running.interval)
                running.run_step()
