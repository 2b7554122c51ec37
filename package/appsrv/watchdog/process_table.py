"""The processes below the watchdog, as the kernel knows them: signals to them, and the ones that have ended.

A thin object around `process_tree` and waitpid(2), so that tests can put another one in its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from appsrv.system import process_group, process_tree


class ProcessTable:
    """The processes below the calling process."""

    def send_signal(self, pid: int, number: int) -> None:
        """Send a signal to a process, which may have ended already."""
        process_tree.send_signal(pid, number)

    def descendants(self) -> list[int]:
        """The pids of all processes below this one, children first."""
        return process_tree.descendants(os.getpid())

    def workers(self) -> list[int]:
        """The pids of the workers below this process; processes that the application has started are not among them."""
        return process_tree.own_processes()

    def kill_group(self, leader: int) -> None:
        """Kill what is left of the process group of a process that has ended."""
        process_group.kill_rest(leader)

    def reap(self) -> Iterator[tuple[int, int]]:
        """(pid, wait status) of each child that has ended and was not reaped yet."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            yield pid, status
