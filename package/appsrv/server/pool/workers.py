"""The workers of one application group as the server knows them: a slot, a channel and a pid each.

Makes the handle of each worker, passes on the messages of the workers, and gives orders by flag and signal. Does not
know how many workers there should be (`pool`), nor how one is forked (`preloaders`).
"""

from __future__ import annotations

import itertools
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from gevent import get_hub

from appsrv.errors import ProtocolError
from appsrv.ipc import channel as channels
from appsrv.ipc import directions, message_format, messages
from appsrv.ipc.channel import Channel, ChannelClosed, DescriptorsLost, Outbox
from appsrv.ipc.dispatcher import Dispatcher, on
from appsrv.ipc.message_format import Message
from appsrv.ipc.request_counts import Counts, total
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.frontend.parking import READABLE
from appsrv.server.pool.handles import WorkerHandle, signal_or_delegate
from appsrv.server.pool.pool import SpawnWorker
from appsrv.system.process_tree import exists
from appsrv.wsgi.removed_fields import RemovedFields

log = logging.getLogger("appsrv.workers")


# How long after the end of its channel the exit report of a worker is overdue.
EXIT_REPORT_SECONDS = 1.0


class WorkerEvents(NamedTuple):
    """The functions that are called for the messages of workers; those about connections go to the back end.

    `ready`: the worker waits for its first request. `unhealthy`: it has failed the health check (the reason) and ends.
    `not_started`: the process behind it does not accept connections (the reason, and whether that process has ended),
    and the worker ends. `code_changed`, `files_changed` (development): files have changed, and the application has to
    be loaded again or not. `process_ended`: a process that had loaded the application has ended.
    """

    ready: Callable[[WorkerHandle], None]
    unhealthy: Callable[[WorkerHandle, str], None]
    not_started: Callable[[WorkerHandle, str, bool], None]
    code_changed: Callable[[WorkerHandle, list[str]], None]
    files_changed: Callable[[list[str]], None]
    process_ended: Callable[[], None]


class NoRoom(Exception):
    """There is no slot or no channel for another worker."""


class Workers(Mapping[int, WorkerHandle]):
    """All workers of a group by their serial number, from the order to fork until the end of the process."""

    def __init__(
        self, group: str, *, board: Scoreboard, backend: BackEnd, events: WorkerEvents, now: Callable[[], float],
        development: bool = False, trusted_proxies: Sequence[str] = (),
    ) -> None:
        """`trusted_proxies` is the setting forwarded_allow_ips."""
        self._group = group
        self._board = board
        self._backend = backend
        self._events = events
        self._now = now
        self._development = development
        self._handles: dict[int, WorkerHandle] = {}
        self._removed_fields = RemovedFields(trusted_proxies)
        self._free_slots = list(range(board.slots))
        self._counts_of_ended = Counts()
        self._dispatcher: Dispatcher[[WorkerHandle]] = Dispatcher(
            directions.WORKER_TO_SERVER,
            on(messages.Ready, self._on_ready),
            on(messages.Unhealthy, lambda msg, handle: events.unhealthy(handle, msg.reason)),
            on(messages.StartFailed, lambda msg, handle: events.not_started(handle, msg.reason, msg.ended)),
            on(messages.FieldsRemoved, self._on_fields_removed),
            on(messages.UpstreamEnded, self._on_upstream_ended),
            on(messages.CodeChanged, lambda msg, handle: events.code_changed(handle, msg.paths)),
            on(messages.FilesChanged, lambda msg, _handle: events.files_changed(msg.paths)),
        )

    def __getitem__(self, serial: int) -> WorkerHandle:
        return self._handles[serial]

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._handles))

    def __len__(self) -> int:
        return len(self._handles)

    def busy(self) -> set[int]:
        """The ids of the connections that workers are serving."""
        return {cid for handle in self.values() for cid, _, _ in handle.slot.brief() if cid}

    def counts(self) -> Counts:
        """The requests of all workers since this server began, those that have ended included."""
        return total([self._counts_of_ended, *(handle.slot.counts() for handle in self.values())])

    # -- orders -------------------------------------------------------------------------------------------------------

    def make(self, action: SpawnWorker) -> WorkerHandle:
        """The handle of a new worker, before its process is forked. NoRoom without a free slot or descriptor."""
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
            serial=action.serial, generation=action.generation, index=index, slot=slot, outbox=Outbox(Channel(ours)),
            watcher=watcher, since=self._now(), started=time.time(), first=action.first, theirs=[theirs.detach()],
        )
        for end, other in more:
            end.setblocking(False)
            handle.changes = Outbox(Channel(end))
            handle.theirs.append(other.detach())
        self._handles[action.serial] = handle
        watcher.start(self.receive, handle)
        return handle

    def close_worker_ends(self, handle: WorkerHandle) -> None:
        """Close the worker's ends of its channels here, once its preloader has them."""
        channels.close_all(handle.theirs)
        handle.theirs = []

    def forked(self, handle: WorkerHandle, pid: int) -> None:
        """The worker's preloader has reported the pid of its process."""
        handle.pid = pid
        early, handle.early_ready = handle.early_ready, set()
        for claimed in early:
            try:
                self._on_ready(messages.Ready(claimed), handle)
            except ProtocolError as error:
                self._log_ignored(handle, error)

    def send_changed_files(self, paths: list[str]) -> None:
        """Send these paths to the workers that do not watch files themselves (development)."""
        for handle in self._handles.values():
            if handle.changes is not None:
                handle.changes.send(messages.FilesChanged(paths))

    def retire(self, serial: int, reason: str) -> None:
        """Let the worker finish its requests, and end."""
        handle = self.get(serial)
        if handle is not None:
            log.info("worker %d of %s retires: %s", handle.pid, self._group, reason)
            handle.slot.retire()
            signal_or_delegate(handle.pid, signal.SIGTERM)

    def kill(self, serial: int, reason: str) -> None:
        """End the worker now."""
        handle = self.get(serial)
        if handle is not None:
            handle.reason = reason
            log.warning("killing worker %d of %s: %s", handle.pid, self._group, reason)
            signal_or_delegate(handle.pid, signal.SIGKILL)

    def forget(self, handle: WorkerHandle | None) -> None:
        """Remove a worker whose process has ended, or was never forked."""
        if handle is None or self._handles.pop(handle.serial, None) is None:
            return
        self._backend.worker_gone(handle, [], "")
        handle.watcher.stop()
        handle.outbox.discard()
        handle.outbox.channel.close()
        if handle.changes is not None:
            handle.changes.discard()
            handle.changes.channel.close()
        self.close_worker_ends(handle)
        # The next worker in this slot begins at zero.
        self._counts_of_ended.add(handle.slot.counts())
        handle.slot.take_no_more()
        self.process_ended(handle.pid)
        self._free_slots.append(handle.index)

    def process_ended(self, pid: int) -> None:
        """Report that a process which had loaded the application has ended."""
        if pid > 0:
            self._events.process_ended()

    def lost(self, now: float) -> list[WorkerHandle]:
        """The workers that have ended without an exit report: the preloader that reaped them died before it sent one.

        A worker is returned at the second call that finds it so. If this process was paused, the exit reports that
        arrived meanwhile are read only between two calls: the first one alone would take all of them for lost.
        """
        silent = [h for h in self._handles.values() if h.hung_up and now - h.hung_up > EXIT_REPORT_SECONDS]
        missed = [handle for handle in silent if not exists(handle.pid)]
        lost = [handle for handle in missed if handle.missed]
        for handle in missed:
            handle.missed = True
        return lost

    def flush(self) -> None:
        """Send the messages that had to wait."""
        for handle in self._handles.values():
            if handle.outbox:
                handle.outbox.flush()
            if handle.changes:
                handle.changes.flush()

    # -- messages -----------------------------------------------------------------------------------------------------

    def receive(self, handle: WorkerHandle) -> None:
        """Handle all messages that the worker has sent."""
        done = False
        while not done:
            done = self._receive_until_failure(handle)

    def _receive_until_failure(self, handle: WorkerHandle) -> bool:
        """Handle messages; False after one that cannot be handled, behind which others may wait."""
        try:
            for msg, fds in handle.outbox.channel.waiting():
                self._handle_message(handle, msg, fds)
        except ChannelClosed:
            handle.hung_up = handle.hung_up or self._now()
            handle.watcher.stop()
        except DescriptorsLost as error:
            self._give_up(handle, error.data)
            return False
        except ProtocolError as error:
            self._log_ignored(handle, error)
            return False
        return True

    def _give_up(self, handle: WorkerHandle, data: bytes) -> None:
        try:
            self._backend.give_up(message_format.unpack(data))
        except ProtocolError as error:
            self._log_ignored(handle, error)

    def _log_ignored(self, handle: WorkerHandle, error: ProtocolError) -> None:
        """The application is in the same process and may have written into the channel."""
        log.error("worker %d of %s: a message is ignored: %s", handle.pid, self._group, error)

    def _handle_message(self, handle: WorkerHandle, msg: Message, fds: list[int]) -> None:
        if directions.WORKER_TO_SERVER not in msg.WAYS:
            # About a connection. The back end closes the descriptors that came with the message.
            self._backend.handle_message(handle, msg, fds)
            return
        channels.close_all(fds)
        self._dispatcher.handle_message(msg, handle)

    def _on_ready(self, msg: messages.Ready, handle: WorkerHandle) -> None:
        # This process sends signals to the pid of the handle, so that it is the one that the preloader has reported. A
        # text of the application that reads like Ready must not name another process.
        if not handle.pid:
            # The preloader reports the pid after the fork, over another channel, which may be read after this one.
            handle.early_ready.add(msg.pid)
            return
        if msg.pid != handle.pid:
            raise ProtocolError(f"a Ready with the pid {msg.pid}, which is not that of the worker")
        if handle.ready:
            raise ProtocolError("a second Ready")
        handle.ready = True
        self._events.ready(handle)

    def _on_upstream_ended(self, _msg: messages.UpstreamEnded, handle: WorkerHandle) -> None:
        handle.upstream_ended = True

    def untrusted_proxies(self) -> dict[str, list[str]]:
        """The private addresses whose forwarded fields were removed within the hour, with the names of the fields."""
        return self._removed_fields.untrusted(self._now())

    def _on_fields_removed(self, msg: messages.FieldsRemoved, _handle: object) -> None:
        if msg.names:
            for line in self._removed_fields.lines(msg.why, msg.address, msg.names, self._now()):
                log.warning("%s: %s", self._group, line)


def _pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """The ends of `count` channels. On OSError, none of them is left open."""
    pairs: list[tuple[socket.socket, socket.socket]] = []
    try:
        for _ in range(count):
            pairs.append(channels.pair())
    except OSError:
        for end in itertools.chain.from_iterable(pairs):
            end.close()
        raise
    return pairs
