"""Watches the files of loaded modules and reports changes. It knows no framework and restarts nothing.

With watchfiles installed the operating system reports changes (inotify, FSEvents). Without it the files are compared
three times a second, or less often if they are so many that this would cost more than a percent of a processor.
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

POLL_SECONDS = 0.3
"""Seconds between two comparisons of the files while the system does not report changes."""

REFRESH_SECONDS = 1.0
"""Seconds until the set of files is determined again and all of them are compared."""

MAX_CPU_SHARE = 0.004
"""The share of one processor that each of the two may use. The intervals grow to stay within it."""

SETTLE_MS = 50
"""Changes within this time count as one change: editors write, rename and set permissions in one save.

watchfiles wakes up once in each such interval, with or without changes. With 20 ms that alone took 1 % of a processor.
"""

DEBOUNCE_MS = 200
"""Changes that last longer than this, such as a checkout of many files, are reported in several parts."""

Stamp = tuple[int, int]
"""(modification time in ns, size in bytes) of a file, for comparisons."""

Files = Callable[[], Iterable[str]]
Changed = Callable[[list[str]], bool]


# -- which files ---------------------------------------------------------------------------------------------


def traceback_files(error: BaseException) -> set[str]:
    """The files of an error: those of its frames and its causes' frames, and the file of a SyntaxError."""
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
"""(modification time, size) of each source loaded since `remember_loaded`, taken before the source was read."""


def remember_loaded() -> None:
    """Remember the modification time and size of the source of each module that is imported from now on.

    Python calls `SourceLoader.path_stats` before it reads a source, even if it writes no compiled files. The process of
    a development server that loads the application calls this before it does. The process's own writes are recorded
    from now on as well (`own_writes`).
    """
    own_writes.record()
    original = SourceFileLoader.path_stats
    if getattr(original, "remembers", False):
        return

    def path_stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
        found = original(self, path)
        _loaded[os.path.abspath(path)] = found["mtime"], found["size"]
        return found

    path_stats.remembers = True  # type: ignore[attr-defined]
    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


def changed_since_import(path: str) -> bool:
    """Whether a module's file differs from the one that was imported, because it was saved while the program started.

    For a module imported before `remember_loaded`, its compiled file is compared: that holds the time and size of the
    source (PEP 3147, PEP 552). Without a compiled file the result is False.
    """
    loaded = _loaded.get(path) or _loaded_by_real_path(len(_loaded)).get(path)
    if loaded is None:
        return _differs_from_compiled(path)
    now = _time_and_size(path)
    return now is not None and now != loaded


def loaded_have_changed() -> bool:
    """Whether the source of a module loaded since `remember_loaded` has changed or was removed."""
    return any(_time_and_size(path) != loaded for path, loaded in _loaded.items())


def _time_and_size(path: str) -> tuple[float, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime, found.st_size


@functools.lru_cache(maxsize=1)
def _loaded_by_real_path(_count: int) -> dict[str, tuple[float, int]]:
    """`_loaded` by paths without symbolic links. Django resolves paths, while Python imports by those of `sys.path`.

    `_count`: the size of `_loaded`, so that the cached result is used until it grows.
    """
    return {os.path.realpath(path): state for path, state in list(_loaded.items())}


def _differs_from_compiled(path: str) -> bool:
    if sys.dont_write_bytecode or not path.endswith(".py"):
        # If Python writes no compiled files, an existing one may be older than the imported source. For a name without
        # `.py` it may belong to another source, because the name of a compiled file does not contain the suffix.
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
    """Remove the compiled file of a changed source.

    A compiled file holds its source's time in whole seconds (PEP 552). After two saves of the same size within one
    second, Python would take an outdated compiled file for the present source.
    """
    if not path.endswith(".py"):
        return
    with contextlib.suppress(OSError, NotImplementedError, ValueError):
        os.unlink(importlib.util.cache_from_source(path))


# -- noticing ------------------------------------------------------------------------------------------------


def stamp(path: str) -> Stamp | None:
    """The stamp of a file, which identifies its content without reading it; None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


class Snapshot:
    """The stamps of the files at the last comparison."""

    def __init__(self, since: float = math.inf, suspects: Iterable[str] = ()) -> None:
        """`since`: the start of this program (seconds, time.time()); infinity: files saved after it are not reported.

        `suspects`: files that could not be loaded. They have no compiled file for a comparison, only the time.
        """
        self._started = since * 1e9
        self._suspects = frozenset(suspects)
        self._stamps: dict[str, Stamp] = {}

    def changes(self, files: Iterable[str]) -> list[str]:
        """The files that have changed since the last comparison, sorted.

        A file that was not compared before has changed if it differs from the imported source and this program has not
        written it.
        """
        return sorted(path for path in files if self._has_changed(path))

    def _has_changed(self, path: str) -> bool:
        now = stamp(path)
        if now is None:
            # A missing file is not a change yet: some editors remove a file before they write it again.
            return False
        before = self._stamps.get(path)
        self._stamps[path] = now
        if before is None:
            suspect = now[0] >= self._started and (path in self._suspects or changed_since_import(path))
            return suspect and not own_writes.is_own_write(path)
        return before != now


class CpuBudget:
    """Limits the share of processor time of a repeated task, by the interval until its next run."""

    def __init__(self, at_least: float) -> None:
        """`at_least`: the shortest interval in seconds."""
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
        """Whether the interval since the last run has passed; with `earlier`, the shortest interval."""
        return time.monotonic() - self._ended >= (self._at_least if earlier else self.interval)


class KnownFiles:
    """The set of files to compare. Determining the set costs more than the comparison, so it happens less often."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._budget = CpuBudget(REFRESH_SECONDS)
        self._modules = 0
        self.paths: set[str] = set()
        self.refresh()

    def refresh(self) -> bool:
        """Determine the set again after the interval, or earlier if modules were imported; returns whether it did."""
        if not self._budget.is_due(earlier=len(sys.modules) != self._modules):
            return False
        with self._budget:
            self._modules = len(sys.modules)
            try:
                self.paths = set(self._files())
            except (OSError, RuntimeError, KeyError):
                # A directory or a module was removed during the iteration. The next call tries again.
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
    """Call `changed(paths)` for changes in `files()`, until it returns True or `stop` is set. Blocks.

    `files` is called repeatedly, because modules may be imported later. `since`: the start of this program (seconds,
    time.time()); files saved between it and the first comparison are reported, too. `suspects`: files that prevented
    the loading of the application; for these the time alone decides, even if they were compiled.
    """
    stop = stop or threading.Event()
    snapshot = Snapshot(since, suspects)
    known = KnownFiles(files)
    for candidates in itertools.chain([known.paths], _candidates(known, stop)):
        paths = snapshot.changes(candidates)
        if paths and changed(paths):
            return


def _candidates(known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """An endless series of sets of files that may have changed."""
    return _reported(known, stop) if has_watchfiles() else _polled(known, stop)


def _polled(known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """All files, once in each interval."""
    budget = CpuBudget(POLL_SECONDS)
    while not stop.wait(budget.interval):
        known.refresh()
        with budget:
            yield known.paths


# -- notice by the system ------------------------------------------------------------------------------------


def has_watchfiles() -> bool:
    """Whether watchfiles is installed (the extra `reload`), by which the system reports changes."""
    return importlib.util.find_spec("watchfiles") is not None


def _reported(known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """The files that the system reports; at intervals all files, because network file systems report no changes."""
    while not stop.is_set():
        try:
            yield from _reported_in(directories_of(known.paths), known, stop)
        except (OSError, RuntimeError):
            # There are no free inotify watches (fs.inotify.max_user_watches), or a directory was just removed.
            yield from _polled(known, stop)


def _reported_in(directories: set[str], known: KnownFiles, stop: threading.Event) -> Iterator[Iterable[str]]:
    """The reported files in these directories; ends when the set of files needs other directories."""
    begins = True
    for reported in _system_changes(directories, stop):
        refreshed = known.refresh()
        # At the beginning all files are compared, because the system does not report changes before the watch.
        yield known.paths if refreshed or begins else known.paths & reported
        begins = False
        if refreshed and not directories_of(known.paths) <= directories:
            return


def _system_changes(directories: set[str], stop: threading.Event) -> Iterator[set[str]]:
    """The changed paths in these directories as the system reports them; at times an empty set."""
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
    """The existing directories of these files."""
    return {directory for directory in map(os.path.dirname, files) if os.path.isdir(directory)}
