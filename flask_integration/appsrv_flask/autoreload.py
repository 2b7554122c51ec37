"""Watching for changes by Werkzeug's rules: what it watches, extra files, exclude patterns, and its lines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from werkzeug import _reloader
from werkzeug._internal import _log

from appsrv.development import reloader

STARTED = time.time()
"""When this command began, near enough, or was needed: files saved later may have been imported in their old form."""

Report = Callable[[list[str]], None]


def name() -> str:
    """What the line "Restarting with ..." names."""
    loop = cast(Any, _reloader.reloader_loops["auto"])
    if reloader.has_watchfiles() and loop is _reloader.StatReloaderLoop:
        return "watchfiles"
    return str(loop.name or "watchdog")


class FlaskFileWatch:
    """What a worker runs in a thread of its own to learn about changes, for as long as it lives."""

    def __init__(
        self, extra_files: Iterable[str], exclude_patterns: Iterable[str], error: BaseException | None = None,
        told: Callable[[], None] | None = None,
    ) -> None:
        """`error`: why the application could not be loaded; its files are watched too. `told`: called at a change."""
        broken = reloader.traceback_files(error) if error else set()
        self._extra_files = {*extra_files, *broken}
        self._exclude_patterns = set(exclude_patterns)
        self._told = told

    def __call__(self, report: Report, _files_changed: Report) -> None:
        """`report` each change: Flask's templates look at their files themselves."""

        def changed(paths: list[str]) -> bool:
            for path in paths:
                _log("info", f" * Detected change in {path!r}, reloading")
                reloader.forget_compiled(path)
            report(paths)
            if self._told is not None:
                self._told()
            return False

        if name() in ("stat", "watchfiles"):
            reloader.watch(self._files, changed, since=STARTED)
        else:
            self._run_watchdog(changed)

    def forget(self, paths: list[str]) -> None:
        """Nothing here remembers files."""

    def _files(self) -> Iterable[str]:
        return _reloader._find_stat_paths(self._extra_files, self._exclude_patterns)

    def _run_watchdog(self, changed: Callable[[list[str]], bool]) -> None:
        """Werkzeug's own loop on the package watchdog, told to report instead of to exit."""

        def trigger_reload(_: Any, filename: str | bytes) -> None:
            changed([os.fsdecode(filename)])

        base = _reloader.reloader_loops["auto"]
        kind = cast(Any, type("Loop", (base,), {"trigger_reload": trigger_reload}))
        with kind(self._extra_files, self._exclude_patterns) as running:
            while True:
                time.sleep(running.interval)
                running.run_step()
