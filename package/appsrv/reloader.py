"""Watches the files of loaded modules and says which of them changed. Knows no framework, restarts nothing.

With watchfiles installed the system reports changes (inotify, FSEvents); without it the files are compared
once a second, less often when there are so many that it would cost more than half a percent of a processor.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping

INTERVAL = 1.0
"""Seconds between two looks at the files when the system does not report changes."""

MAX_CPU_SHARE = 0.005
"""The part of one processor that looking may cost; the interval grows to keep it."""

REFRESH = 2.0
"""Seconds between two looks when the system reports changes: for late imports and network file systems."""

SETTLE_MS = 20
"""Changes this close together are one change: editors write, rename and set permissions in one save."""

DEBOUNCE_MS = 200
"""Changes that go on longer than this (a checkout of many files) are reported in parts."""

Stamp = tuple[int, int]
"""(modification time in ns, size): what is compared."""

Files = Callable[[], Iterable[str]]
Changed = Callable[[list[str]], bool]


# -- which files ---------------------------------------------------------------------------------------------


def module_files(modules: Mapping[str, types.ModuleType] | None = None) -> set[str]:
    """Source files of the loaded modules, without Python's own library."""
    loaded = list((sys.modules if modules is None else modules).values())
    paths = (_source_of(module) for module in loaded)
    return {path for path in paths if path and not _belongs_to_python(path)}


_PYTHON_ITSELF = os.path.join(os.path.dirname(os.__file__), "")


def _belongs_to_python(path: str) -> bool:
    """Nobody edits the standard library; what is installed beside it may well be edited."""
    return path.startswith(_PYTHON_ITSELF) and "-packages" + os.sep not in path


def _source_of(module: object) -> str | None:
    """The file a module came from; of one in a zip file, that zip file."""
    try:
        path = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
    except TypeError:
        return None
    if not isinstance(path, str) or "\0" in path:
        return None
    return _existing_part(os.path.abspath(path))


def _existing_part(path: str) -> str | None:
    while not os.path.isfile(path):
        parent = os.path.dirname(path)
        if parent == path:
            return None
        path = parent
    return path


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


def changed_since_import(path: str) -> bool:
    """True when a module's file is not the one that was compiled: it was saved while the program started.

    The compiled file holds the time and size of its source (PEP 3147, PEP 552); without one: False.
    """
    if sys.dont_write_bytecode:
        # A compiled file that is there may be older than what was imported.
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

    def __init__(self, files: Iterable[str]) -> None:
        self._stamps: dict[str, Stamp | None] = {path: stamp(path) for path in files}

    def changes(self, files: Iterable[str]) -> list[str]:
        """Those of `files` that differ from the last look. One seen for the first time has not changed."""
        return [path for path in files if self._has_changed(path)]

    def _has_changed(self, path: str) -> bool:
        now = stamp(path)
        if now is None:
            # Gone is no change yet: editors replace a file by removing it first.
            return False
        before = self._stamps.get(path)
        self._stamps[path] = now
        return before is not None and before != now

    def missed(self, since: float) -> list[str]:
        """Files saved after `since` (seconds, time.time()) that are no longer what was imported."""
        limit = int(since * 1e9)
        recent = [path for path, seen in self._stamps.items() if seen is not None and seen[0] >= limit]
        return [path for path in recent if changed_since_import(path)]


def watch(files: Files, changed: Changed, *, stop: threading.Event | None = None, since: float | None = None) -> None:
    """Call `changed(paths)` whenever some of `files()` changed, until it returns True or `stop` is set.

    `files` is asked again and again, since modules are imported late. `since` is when this program started
    (seconds, time.time()): what was saved between then and the first look is reported too. Blocks.
    """
    stop = stop or threading.Event()
    snapshot = Snapshot(files())
    missed = snapshot.missed(since) if since is not None else []
    if missed and changed(sorted(missed)):
        return
    for candidates in _reported(files, stop) if has_watchfiles() else _polled(files, stop):
        paths = snapshot.changes(candidates)
        if paths and changed(sorted(paths)):
            return


def _polled(files: Files, stop: threading.Event) -> Iterator[Iterable[str]]:
    """All files, once per interval."""
    clock = CostClock(INTERVAL)
    while not stop.wait(clock.interval):
        with clock:
            yield files()


class CostClock:
    """Measures what a look at all files costs, and so how long to wait before the next one."""

    def __init__(self, interval: float) -> None:
        self._at_least = interval
        self.interval = interval
        self._began = 0.0
        self._looked = -math.inf

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._looked = time.monotonic()
        self.interval = max(self._at_least, (time.thread_time() - self._began) / MAX_CPU_SHARE)

    def is_due(self) -> bool:
        """True when the interval has passed since the last look."""
        return time.monotonic() - self._looked >= self.interval


# -- notice by the system ------------------------------------------------------------------------------------


def has_watchfiles() -> bool:
    """True when the system can report changes (the extra `reload` is installed)."""
    return importlib.util.find_spec("watchfiles") is not None


def _reported(files: Files, stop: threading.Event) -> Iterator[Iterable[str]]:
    """What the system reports; now and then all files, for network file systems report nothing."""
    clock = CostClock(REFRESH)
    known = set(files())
    while not stop.is_set():
        directories = directories_of(known)
        try:
            for reported in _system_changes(directories, stop):
                yield known & reported
                # At once when watching begins: the system reports nothing of what came before.
                if clock.is_due():
                    with clock:
                        known = set(files())
                        yield known
                if not directories_of(known) <= directories:
                    break
        except (OSError, RuntimeError):
            # Out of inotify watches (fs.inotify.max_user_watches), or a directory went away just now.
            yield from _polled(files, stop)


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
