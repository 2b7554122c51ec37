"""Watches the files of loaded modules and says which of them changed. Knows no framework, restarts nothing.

With watchfiles installed the system reports changes (inotify, FSEvents); without it the files are compared
three times a second, less often when there are so many that it would cost more than a percent of a processor.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from typing import Any

from appsrv.development import own_writes

INTERVAL = 0.3
"""Seconds between two looks at the files when the system does not report changes."""

REFRESH = 1.0
"""Seconds before it is asked again which files there are, and all of them are looked at."""

MAX_CPU_SHARE = 0.004
"""The part of one processor that each of the two may cost; the intervals grow to keep it."""

SETTLE_MS = 50
"""Changes this close together are one change: editors write, rename and set permissions in one save.

watchfiles wakes up once in each of these, changes or not: with 20 that alone was 1 % of a processor.
"""

DEBOUNCE_MS = 200
"""Changes that go on longer than this (a checkout of many files) are reported in parts."""

Stamp = tuple[int, int]
"""(modification time in ns, size): what is compared."""

Files = Callable[[], Iterable[str]]
Changed = Callable[[list[str]], bool]


# -- which files ---------------------------------------------------------------------------------------------


def traceback_files(error: BaseException) -> set[str]:
    """Files that took part in an error: those of its frames and, for a SyntaxError, the file it is in."""
    files: set[str] = set()
    for link in _chain(error):
        trace = link.__traceback__
        while trace is not None:
            files.add(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        if isinstance(link, SyntaxError) and link.filename:
            files.add(link.filename)
    return {os.path.abspath(path) for path in files if os.path.isfile(path)}


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


_loaded: dict[str, tuple[float, int]] = {}
"""(modification time, size) of each source that was loaded since `remember_loaded`, from before it was read."""


def remember_loaded() -> None:
    """Remember of each module that is imported from now on which state of its file it came from.

    Python asks for a source's time and size before it reads it (`SourceLoader.path_stats`), whether or not it may write
    compiled files. For the process of a development server that loads the application, before it does. What the
    process writes itself from now on is remembered as well.
    """
    own_writes.record()
    ask = SourceFileLoader.path_stats
    if getattr(ask, "remembers", False):
        return

    def path_stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
        found = ask(self, path)
        _loaded[os.path.abspath(path)] = found["mtime"], found["size"]
        return found

    path_stats.remembers = True  # type: ignore[attr-defined]
    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


def changed_since_import(path: str) -> bool:
    """True when a module's file is not the one that was imported: it was saved while the program started.

    What was imported before `remember_loaded` is compared with its compiled file, which holds the time and size of its
    source (PEP 3147, PEP 552); without one: False.
    """
    loaded = _loaded.get(path) or _loaded_by_real_path(len(_loaded)).get(path)
    if loaded is None:
        return _differs_from_compiled(path)
    now = _time_and_size(path)
    return now is not None and now != loaded


def loaded_have_changed() -> bool:
    """True when the source of a module that was loaded since `remember_loaded` is not what it was then, or has gone."""
    return any(_time_and_size(path) != loaded for path, loaded in _loaded.items())


def _time_and_size(path: str) -> tuple[float, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime, found.st_size


@functools.lru_cache(maxsize=1)
def _loaded_by_real_path(_count: int) -> dict[str, tuple[float, int]]:
    """The same by the paths that have no links in them: those are Django's, while Python imports by `sys.path`."""
    return {os.path.realpath(path): state for path, state in list(_loaded.items())}


def _differs_from_compiled(path: str) -> bool:
    if sys.dont_write_bytecode or not path.endswith(".py"):
        # A compiled file that is there may be older than what was imported, or another file's: names lose their ends.
        return False
    try:
        with open(importlib.util.cache_from_source(path), "rb") as file:
            head = file.read(16)
        found = os.stat(path)
    except (OSError, NotImplementedError, ValueError):
        return False
    if len(head) < 16 or head[:4] != importlib.util.MAGIC_NUMBER or any(head[4:8]):
        return False
    recorded = int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:16], "little")
    return recorded != (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def forget_compiled(path: str) -> None:
    """Remove the compiled file of a source that changed.

    Its time is kept in whole seconds: two saves of equal size within one second would look the same to it.
    """
    if not path.endswith(".py"):
        return
    with contextlib.suppress(OSError, NotImplementedError, ValueError):
        os.unlink(importlib.util.cache_from_source(path))


# -- noticing ------------------------------------------------------------------------------------------------


def stamp(path: str) -> Stamp | None:
    """What identifies the content of a file without reading it; None when it is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


class Snapshot:
    """The files as they were last seen."""

    def __init__(self, since: float = math.inf, suspects: Iterable[str] = ()) -> None:
        """`since`: when this program started (seconds, time.time()), or infinity when that does not matter.

        `suspects` could not be loaded: there is no compiled file to compare them with, only the time.
        """
        self._started = since * 1e9
        self._suspects = frozenset(suspects)
        self._stamps: dict[str, Stamp] = {}

    def changes(self, files: Iterable[str]) -> list[str]:
        """Those of `files` that differ from the last look, sorted.

        One seen for the first time has changed if it is no longer what this program imported, nor what it wrote itself.
        """
        return sorted(path for path in files if self._has_changed(path))

    def _has_changed(self, path: str) -> bool:
        now = stamp(path)
        if now is None:
            # Gone is no change yet: editors replace a file by removing it first.
            return False
        before = self._stamps.get(path)
        self._stamps[path] = now
        if before is None:
            suspect = now[0] >= self._started and (path in self._suspects or changed_since_import(path))
            return suspect and not own_writes.wrote(path)
        return before != now


class Budget:
    """Keeps something that costs processor time to its share: how long to wait until it may be done again."""

    def __init__(self, at_least: float) -> None:
        """`at_least`: seconds between two times, however cheap it is."""
        self._at_least = at_least
        self._began = 0.0
        self._ended = -math.inf
        self.interval = at_least

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._ended = time.monotonic()
        self.interval = max(self._at_least, (time.thread_time() - self._began) / MAX_CPU_SHARE)

    def is_due(self, *, earlier: bool = False) -> bool:
        """True when the interval has passed; with `earlier`, when at least the shortest has."""
        return time.monotonic() - self._ended >= (self._at_least if earlier else self.interval)


class KnownFiles:
    """The files to look at. Asking which they are costs more than looking at them, so it is done less often."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._budget = Budget(REFRESH)
        self._modules = 0
        self.paths: set[str] = set()
        self.refresh()

    def refresh(self) -> bool:
        """Ask again if it is time, which it is early when modules were imported; True when it was done."""
        if not self._budget.is_due(earlier=len(sys.modules) != self._modules):
            return False
        with self._budget:
            self._modules = len(sys.modules)
            try:
                self.paths = set(self._files())
            except (OSError, RuntimeError, KeyError):
                # A directory or a module went away while they were gone through: it is asked again next time.
                return False
        return True


def watch(
    files: Files,
    changed: Changed,
    *,
    stop: threading.Event | None = None,
    since: float = math.inf,
    suspects: Iterable[str] = (),
) -> None:
    """Call `changed(paths)` whenever some of `files()` changed, until it returns True or `stop` is set.

    `files` is asked again and again, since modules are imported late. `since` is when this program started
    (seconds, time.time()): what was saved between then and the first look is reported too, `suspects` (files that
    kept it from loading) whether or not they have been compiled. Blocks.
    """
    stop = stop or threading.Event()
    snapshot = Snapshot(since, suspects)
    known = KnownFiles(files)
    for candidates in itertools.chain([known.paths], _candidates(known, stop)):
        paths = snapshot.changes(candidates)
        if paths and changed(paths):
            return


def _candidates(known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """Files that may have changed, again and again."""
    return _reported(known, stop) if has_watchfiles() else _polled(known, stop)


def _polled(known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """All files, once per interval."""
    budget = Budget(INTERVAL)
    while not stop.wait(budget.interval):
        known.refresh()
        with budget:
            yield known.paths


# -- notice by the system ------------------------------------------------------------------------------------


def has_watchfiles() -> bool:
    """True when the system can report changes (the extra `reload` is installed)."""
    return importlib.util.find_spec("watchfiles") is not None


def _reported(known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """What the system reports; now and then all files, for network file systems report nothing."""
    while not stop.is_set():
        try:
            yield from _reported_in(directories_of(known.paths), known, stop)
        except (OSError, RuntimeError):
            # Out of inotify watches (fs.inotify.max_user_watches), or a directory went away just now.
            yield from _polled(known, stop)


def _reported_in(directories: set[str], known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """The same for these directories, until there are files in others."""
    begins = True
    for reported in _system_changes(directories, stop):
        refreshed = known.refresh()
        # At the beginning too: the system reports nothing of what came before.
        yield known.paths if refreshed or begins else known.paths & reported
        begins = False
        if refreshed and not directories_of(known.paths) <= directories:
            return


def _system_changes(directories: set[str], stop: threading.Event) -> Iterator[set[str]]:
    """Paths in these directories as the system reports them; an empty set when there are none for a while."""
    import watchfiles

    changes = watchfiles.watch(
        *sorted(directories),
        watch_filter=None,
        debounce=DEBOUNCE_MS,
        step=SETTLE_MS,
        rust_timeout=DEBOUNCE_MS,
        yield_on_timeout=True,
        recursive=False,
        stop_event=stop,
    )
    return ({path for _, path in batch} for batch in changes)


def directories_of(files: Iterable[str]) -> set[str]:
    """The directories that hold these files and exist."""
    return {directory for directory in map(os.path.dirname, files) if os.path.isdir(directory)}
