"""The workers that a preloader has forked: the fork itself, which server each is for, and which of them have ended.

The only module that forks workers. Knows processes and pipes, no messages.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appsrv.app_process import forked_child, own_lines
from appsrv.ipc import channel as channels
from appsrv.system import unpatched

Fork = Callable[[], tuple[int, list[int]]]


@dataclass(frozen=True)
class ForkedWorker:
    """One worker. `serial` is its number at the server whose pid is `server`."""

    pid: int
    serial: int
    server: int


class ForkedWorkers:
    """The workers of this process that have not been reaped. False when there are none."""

    def __init__(
        self, fork: Fork | None = None, waitpid: Callable[[int, int], tuple[int, int]] = unpatched.waitpid
    ) -> None:
        """`fork` is `fork_with_pipes` unless a test gives another one."""
        self._fork = fork or fork_with_pipes
        self._waitpid = waitpid
        self._workers: dict[int, ForkedWorker] = {}

    def __bool__(self) -> bool:
        return bool(self._workers)

    def fork(self, *, serial: int, server: int) -> tuple[int, list[int]]:
        """(pid, read ends of the child's stdout and stderr); in the child (0, []). Raises OSError."""
        pid, pipes = self._fork()
        if pid:
            self._workers[pid] = ForkedWorker(pid, serial, server)
        return pid, pipes

    def reap(self) -> Iterator[tuple[ForkedWorker, int]]:
        """(worker, wait status) of each worker that has ended.

        Each is asked for by its pid: waitpid(-1) would take the wait status of children of the application, too.
        """
        for pid in list(self._workers):
            try:
                ended, status = self._waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                # The application has waited for all children of the process, which includes this one. Its status is
                # lost; that it has ended is known.
                ended, status = pid, 0
            if ended:
                yield self._workers.pop(pid), status

    def forget(self) -> None:
        """In a child of this process: they are not its own children."""
        self._workers.clear()


def fork_with_pipes() -> tuple[int, list[int]]:
    """Fork; (pid, read ends of the child's stdout and stderr), in the child (0, []). Raises OSError."""
    pipes: list[int] = []
    try:
        for _ in ("stdout", "stderr"):
            pipes += os.pipe()
        # Otherwise the child would have a copy of what the buffers hold, and would write it a second time.
        own_lines.flush()
        pid = _fork()
    except OSError:
        channels.close_all(pipes)
        raise
    out, out_end, err, err_end = pipes
    if pid == 0:
        try:
            os.dup2(out_end, 1)
            os.dup2(err_end, 2)
            channels.close_all(pipes)
        except OSError:
            # An exception would go up to the preloader's loop. The child must never continue as a second preloader.
            os._exit(1)
        return 0, []
    channels.close_all((out_end, err_end))
    return pid, [out, err]


def _fork() -> int:
    with warnings.catch_warnings():
        # From Python 3.12 on, os.fork() warns, after the fork, of threads that do not live on in the child. With
        # `-W error`, or a filter of the application, that warning is an exception and would end the preloader.
        warnings.simplefilter("ignore")
        return forked_child.fork_own_process(unpatched.fork)
