"""The application's threads and children that are at work when the worker is to end: finds, names, waits for them.

At the end of a process Python waits for ordinary threads, and drops daemon threads wherever they are. Whether a thread
works, or only waits for work, is seen on its stack. This module knows threads and frames. It does not know why the
worker ends.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

OWN_PREFIX = "appsrv-"
"""The names of appsrv's own threads begin with this."""

POLL_INTERVAL_SECONDS = 0.05
# A thread that ends within this time, once it is told that the process ends, gets no line in the log.
GRACE = 1.0
MOST_NAMED = 10

_STDLIB = os.path.join(sysconfig.get_paths()["stdlib"], "")
_PACKAGES = (os.path.join(_STDLIB, "site-packages", ""), os.path.join(_STDLIB, "dist-packages", ""))
# An executor's thread without a job is in this function, and ends with the process.
_EXECUTOR = (os.path.join("concurrent", "futures", "thread.py"), "_worker")
# A thread whose innermost frame is in one of these waits for another thread, a connection or a time.
_WAITING = tuple(os.path.join(_STDLIB, name) for name in ("threading.py", "queue.py", "selectors.py"))


@dataclass(frozen=True)
class BusyThread:
    """A thread at work. `place`: where its own code is, empty where that is not known."""

    name: str
    daemon: bool
    place: str

    def __str__(self) -> str:
        kind = "daemon thread" if self.daemon else "thread"
        return f"{kind} {self.name!r}" + (f" at {self.place}" if self.place else "")


def busy(threads: Iterable[threading.Thread], frames: Mapping[int, FrameType]) -> list[BusyThread]:
    """The threads that are at work, and ordinary threads that wait, since the process waits for them."""
    found = []
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        if thread is threading.main_thread() or thread.name.startswith(OWN_PREFIX) or isinstance(thread, _FOREIGN):
            continue
        if frame is None:
            # With gevent's patches it is a greenlet. Whether a greenlet works or waits cannot be seen.
            at_work = not thread.daemon
        else:
            at_work = not (_is_without_job(frame) or (thread.daemon and _waits(frame)))
        if at_work:
            found.append(BusyThread(thread.name, bool(thread.daemon), _place(frame)))
    return found


# Made by `threading` for a thread that something else has started.
_FOREIGN = threading._DummyThread


def _is_without_job(frame: FrameType) -> bool:
    file, function = _EXECUTOR
    return frame.f_code.co_name == function and frame.f_code.co_filename.endswith(file)


def _waits(frame: FrameType) -> bool:
    return frame.f_code.co_filename in _WAITING


def _place(frame: FrameType | None) -> str:
    """The innermost frame outside the standard library, or the innermost of all."""
    innermost = frame
    while frame is not None and _is_stdlib(frame.f_code.co_filename):
        frame = frame.f_back
    chosen = frame or innermost
    return "" if chosen is None else f"{chosen.f_code.co_filename}:{chosen.f_lineno} in {chosen.f_code.co_name}"


def _is_stdlib(file: str) -> bool:
    return file.startswith((_STDLIB, "<frozen")) and not file.startswith(_PACKAGES)


def busy_now() -> list[BusyThread]:
    """The application's threads that are at work in this process, without the calling one."""
    me = threading.current_thread()
    return busy((thread for thread in threading.enumerate() if thread is not me), sys._current_frames())


def children_now() -> list[Any]:
    """The running `multiprocessing` children that are no daemons, for which Python waits at the end of the process."""
    multiprocessing: Any = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return []
    return [child for child in multiprocessing.active_children() if not child.daemon]


def abandon_children(children: Iterable[Any]) -> None:
    """Have Python not wait for these children at the end of the process. They outlive it."""
    known: set[Any] = sys.modules["multiprocessing.process"]._children
    known.difference_update(children)


class LastThreads:
    """Decides about the threads and children that are left when their worker ends.

    `report` writes a line. `count` is called with the number of threads that the worker waits for. `most`: for how many
    seconds it waits for all of them; 0.0: not at all, and then Python waits for the ordinary ones.
    """

    def __init__(
        self, report: Callable[[str], None], count: Callable[[int], None], most: float, stop_timeout: float,
        find_busy: Callable[[], list[BusyThread]] = busy_now, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None, children: Callable[[], list[Any]] = children_now,
    ) -> None:
        self._report = report
        self._count = count
        self._most = most
        self._stop_timeout = stop_timeout
        self._find_busy = find_busy
        self._clock = clock
        # Looked up now: gevent may have replaced it, and its greenlets are to run meanwhile.
        self._sleep = sleep or time.sleep
        self._children = children

    def wait(self) -> None:
        """The worker serves nothing more: wait for its threads as long as the settings say, and name them."""
        if not self._most:
            return
        left = self._wait(min(GRACE, self._most))
        if left:
            what = "this worker leaves once its threads have ended, within busy_threads_timeout ({limit:g} s)"
            self._name(left, what, self._most)
            self._wait(self._most - GRACE)

    def report_threads(self, *, of_daemons: bool = True) -> None:
        """The process ends: name the threads that are dropped, if wanted, and those that Python waits for."""
        dropped = [thread for thread in self._find_busy() if thread.daemon and of_daemons]
        if dropped:
            self._name(dropped, "this worker ends without waiting for threads that are at work (see busy_threads)")
        waited_for = self._wait(min(GRACE, self._stop_timeout / 4), lambda thread: not thread.daemon)
        if waited_for:
            self._name(
                waited_for, "this worker waits for threads, and is killed after stop_timeout ({limit:g} s)",
                self._stop_timeout,
            )

    def report_children(self, *, waits: bool) -> None:
        """The process ends: name the children that Python waits for; without `waits`, have it not wait."""
        until = self._clock() + min(GRACE, self._stop_timeout / 4)
        while waits and self._children() and self._clock() < until:
            self._sleep(POLL_INTERVAL_SECONDS)
        left = self._children()
        if not left:
            return
        named = ", ".join(f"{child.name} (pid {child.pid})" for child in left[:MOST_NAMED])
        if waits:
            self._report(
                "this worker waits for child processes of multiprocessing that are no daemons, and is killed after "
                f"stop_timeout ({self._stop_timeout:g} s): {named}"
            )
        else:
            abandon_children(left)

    def _wait(
        self, seconds: float, which: Callable[[BusyThread], bool] = lambda _: True
    ) -> list[BusyThread]:
        """Wait up to `seconds` for the threads to end; return those that are left."""
        until = self._clock() + seconds
        while True:
            left = [thread for thread in self._find_busy() if which(thread)]
            self._count(len(left))
            if not left or self._clock() >= until:
                return left
            self._sleep(POLL_INTERVAL_SECONDS)

    def _name(self, threads: list[BusyThread], what: str, limit: float = 0.0) -> None:
        named = "; ".join(str(thread) for thread in threads[:MOST_NAMED])
        more = f"; and {len(threads) - MOST_NAMED} more" if len(threads) > MOST_NAMED else ""
        self._report(f"{what.format(limit=limit)}: {named}{more}")
