"""The workers of one application group as the server knows them: a slot, a channel and a pid each.

A handle is not the process: it is how the server speaks to it. Makes handles, passes on what their workers say, gives
orders by flag and signal. How many there should be is the pool's business; forking them is a preloader's.
"""

from __future__ import annotations

import itertools
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from gevent import get_hub

from appsrv import channel as channels
from appsrv import message
from appsrv.backend import BackEnd
from appsrv.channel import Channel, ChannelClosed, DescriptorsLost, Outbox
from appsrv.family import exists
from appsrv.handles import WorkerHandle, send_signal
from appsrv.parking import READABLE
from appsrv.pool import Spawn
from appsrv.removed_fields import RemovedFields
from appsrv.scoreboard import Scoreboard
from appsrv.tally import Counts, total

log = logging.getLogger("appsrv.workers")


TOLD_WITHIN = 1.0


class Owner(Protocol):
    """Who hears what workers say of themselves; what they say of connections goes to the back end."""

    def worker_ready(self, handle: WorkerHandle) -> None:
        """The worker waits for its first request."""

    def worker_unhealthy(self, handle: WorkerHandle, reason: str) -> None:
        """The worker has not passed the health check, and ends."""

    def worker_not_started(self, handle: WorkerHandle, reason: str, *, ended: bool) -> None:
        """The process behind the worker does not take connections, and the worker ends; `ended`: as it has."""

    def worker_saw_change(self, handle: WorkerHandle, paths: list[str]) -> None:
        """Files of the application have changed (development)."""

    def worker_saw_files(self, handle: WorkerHandle, paths: list[str]) -> None:
        """Files have changed that need no new code (development)."""


class NoRoom(Exception):
    """There is no slot or no channel for another worker."""


class Workers(Mapping[int, WorkerHandle]):
    """All workers of a group by their serial number, from the order to fork until the end of the process.

    `when_ended` are called with the pid of a process that has ended.
    """

    def __init__(
        self, group: str, owner: Owner, board: Scoreboard, backend: BackEnd, *, development: bool = False,
        trusted: Sequence[str] = (),
    ) -> None:
        """`trusted`: what forwarded_allow_ips has."""
        self._group = group
        self._owner = owner
        self._board = board
        self._backend = backend
        self._development = development
        self._handles: dict[int, WorkerHandle] = {}
        self._removed = RemovedFields(trusted)
        self._free_slots = list(range(board.slots))
        self._of_ended = Counts()
        self.when_ended: list[Callable[[int], None]] = []

    def __getitem__(self, serial: int) -> WorkerHandle:
        return self._handles[serial]

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._handles))

    def __len__(self) -> int:
        return len(self._handles)

    def busy(self) -> set[int]:
        """The connections that workers are serving."""
        return {cid for handle in self.values() for cid, _, _ in handle.slot.brief() if cid}

    def counts(self) -> Counts:
        """What all workers of this server's time have done, those that have ended included."""
        return total([self._of_ended, *(handle.slot.counts() for handle in self.values())])

    # -- orders -------------------------------------------------------------------------------------------------------

    def make(self, action: Spawn) -> WorkerHandle:
        """What a new worker needs; its process is still to come. NoRoom when something is missing."""
        if not self._free_slots:
            raise NoRoom("no free slot")
        try:
            (ours, theirs), *more = _pairs(2 if self._development and not action.first else 1)
        except OSError as error:
            log.error("cannot make a worker of %s: %s", self._group, error.strerror)
            raise NoRoom(str(error)) from error
        index = self._free_slots.pop(0)
        slot = self._board.slot(index)
        slot.clear()
        ours.setblocking(False)
        watcher = get_hub().loop.io(ours.fileno(), READABLE)
        handle = WorkerHandle(
            action.serial, action.generation, index, slot, Outbox(Channel(ours)), watcher,
            time.monotonic(), time.time(), first=action.first, theirs=[theirs.detach()],
        )
        for end, other in more:
            end.setblocking(False)
            handle.changes = Outbox(Channel(end))
            handle.theirs.append(other.detach())
        self._handles[action.serial] = handle
        watcher.start(self.hear, handle)
        return handle

    def given(self, handle: WorkerHandle) -> None:
        """The worker's ends of its channels have been passed on."""
        channels.close_all(handle.theirs)
        handle.theirs = []

    def tell_of_files(self, paths: list[str]) -> None:
        """Let those that do not watch files themselves know of these."""
        for handle in self._handles.values():
            if handle.changes is not None:
                handle.changes.send(message.FilesChanged(paths))

    def retire(self, serial: int, reason: str) -> None:
        """Let it finish what it does, and end."""
        handle = self.get(serial)
        if handle is not None:
            log.info("worker %d of %s retires: %s", handle.pid, self._group, reason)
            handle.slot.retire()
            send_signal(handle.pid, signal.SIGTERM)

    def kill(self, serial: int, reason: str) -> None:
        """End it now."""
        handle = self.get(serial)
        if handle is not None:
            handle.reason = reason
            log.warning("killing worker %d of %s: %s", handle.pid, self._group, reason)
            send_signal(handle.pid, signal.SIGKILL)

    def forget(self, handle: WorkerHandle | None) -> None:
        """Its process has ended, or never was."""
        if handle is None or self._handles.pop(handle.serial, None) is None:
            return
        self._backend.worker_gone(handle, [], "")
        handle.watcher.stop()
        handle.outbox.discard()
        handle.outbox.channel.close()
        if handle.changes is not None:
            handle.changes.discard()
            handle.changes.channel.close()
        self.given(handle)
        # The next worker in this slot begins at zero.
        self._of_ended.add(handle.slot.counts())
        handle.slot.take_no_more()
        self.process_ended(handle.pid)
        self._free_slots.append(handle.index)

    def process_ended(self, pid: int) -> None:
        """A process that has had the application in it is no more."""
        if pid > 0:
            for tell in self.when_ended:
                tell(pid)

    def lost(self, now: float) -> list[WorkerHandle]:
        """Those that have ended without anybody saying so: who reaped them died before it could.

        Missed twice: a server that has stood still hears between two looks what it was told meanwhile.
        """
        silent = [h for h in self._handles.values() if h.hung_up and now - h.hung_up > TOLD_WITHIN]
        missed = [handle for handle in silent if not exists(handle.pid)]
        lost = [handle for handle in missed if handle.missed]
        for handle in missed:
            handle.missed = True
        return lost

    def flush(self) -> None:
        """Send what had to wait."""
        for handle in self._handles.values():
            if handle.outbox:
                handle.outbox.flush()
            if handle.changes:
                handle.changes.flush()

    # -- news ---------------------------------------------------------------------------------------------------------

    def hear(self, handle: WorkerHandle) -> None:
        """Read what the worker has said."""
        try:
            for msg, fds in handle.outbox.channel.waiting():
                if isinstance(msg, message.Ready):
                    handle.pid = msg.pid
                    self._owner.worker_ready(handle)
                elif isinstance(msg, message.Unhealthy):
                    self._owner.worker_unhealthy(handle, msg.reason)
                elif isinstance(msg, message.StartFailed):
                    self._owner.worker_not_started(handle, msg.reason, ended=msg.ended)
                elif isinstance(msg, message.FieldsRemoved):
                    self._tell_of_removed(msg)
                elif isinstance(msg, message.UpstreamEnded):
                    handle.upstream_ended = True
                elif isinstance(msg, message.CodeChanged):
                    self._owner.worker_saw_change(handle, msg.paths)
                elif isinstance(msg, message.FilesChanged):
                    self._owner.worker_saw_files(handle, msg.paths)
                else:
                    self._backend.handle_message(handle, msg, fds)
        except ChannelClosed:
            handle.hung_up = handle.hung_up or time.monotonic()
            handle.watcher.stop()
        except DescriptorsLost as error:
            self._backend.give_up(message.unpack(error.data))
            self.hear(handle)


    def _tell_of_removed(self, msg: message.FieldsRemoved) -> None:
        if msg.names:
            for line in self._removed.lines(msg.why, msg.address, msg.names, time.monotonic()):
                log.warning("%s: %s", self._group, line)


def _pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """So many channels' ends, or none of them: OSError."""
    pairs: list[tuple[socket.socket, socket.socket]] = []
    try:
        for _ in range(count):
            pairs.append(channels.pair())
    except OSError:
        for end in itertools.chain.from_iterable(pairs):
            end.close()
        raise
    return pairs
