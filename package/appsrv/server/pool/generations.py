"""The numbers of one group's generations, and the processes of older ones. A generation is one load of the code."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping

from appsrv.net.open_sockets import listening
from appsrv.server.pool.handles import PreloaderHandle, WorkerHandle, signal_or_delegate

log = logging.getLogger("appsrv.manager")


class Generations:
    """Each generation has a higher number than all before it, also across servers of the same instance."""

    def __init__(
        self, group: str, workers: Mapping[int, WorkerHandle], preloaders: Iterable[PreloaderHandle]
    ) -> None:
        self._group = group
        self._workers = workers
        self._preloaders = preloaders
        self._next = 1

    def continue_after(self, last: int) -> None:
        """The generations up to this one have been used."""
        self._next = last + 1

    def take(self) -> int:
        """The number of a new generation."""
        generation, self._next = self._next, self._next + 1
        return generation

    def _older_than(self, generation: int) -> Iterator[WorkerHandle | PreloaderHandle]:
        handles: list[WorkerHandle | PreloaderHandle] = [*self._workers.values(), *self._preloaders]
        return (handle for handle in handles if handle.generation < generation)

    def has_older(self, generation: int) -> bool:
        """Whether there are processes of older generations."""
        return any(True for _ in self._older_than(generation))

    def kill_older(self, generation: int) -> None:
        """Kill the processes of older generations, for whose end a restart waits."""
        for handle in self._older_than(generation):
            log.warning("killing process %d of %s: it does not end, and a restart waits", handle.pid, self._group)
            signal_or_delegate(handle.pid, signal.SIGKILL)

    def addresses_of_older(self, generation: int) -> list[str]:
        """The addresses on which the processes of older generations listen."""
        return sorted({name for handle in self._older_than(generation) for name in listening(handle.pid)})
