"""The server process, as the watchdog, its parent, knows it: the channel to it, and when to start another one.

Knows a process and a channel. What a new server has to learn is decided in `children`.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appsrv.ipc import channel as channels
from appsrv.ipc.channel import Channel, ChannelClosed, Outbox
from appsrv.ipc.message_format import Message
from appsrv.logs.server_log import ServerLog
from appsrv.system.exit_status import attributed_cause
from appsrv.system.oom_kills import OutOfMemoryKills
from appsrv.watchdog.spawner import Spawner, closing_on_error

RESTART_DELAY_SECONDS = 1.0
"""How long a restart waits after a server that could not be started, or after two that ended within this time."""

FLUSH_INTERVAL_SECONDS = 0.25
"""How often the watchdog tries to send messages that the channel had no room for."""


@dataclass(eq=False)
class _Running:
    pid: int
    outbox: Outbox
    started: float

    @property
    def channel(self) -> Channel:
        return self.outbox.channel


class ServerChild:
    """The server process. `start_due` is when to start one while none runs; `restarts` counts those that died."""

    def __init__(
        self, *, spawner: Spawner, selector: selectors.BaseSelector, on_readable: Callable[[], None], log: ServerLog,
        oom_kills: OutOfMemoryKills, clock: Callable[[], float],
    ) -> None:
        """`on_readable` is called by the loop when the channel has input; it calls `receive`."""
        self._spawner = spawner
        self._selector = selector
        self._on_readable = on_readable
        self._log = log
        self._oom_kills = oom_kills
        self._clock = clock
        self._running: _Running | None = None
        self._early_deaths = 0
        self.restarts = 0
        self.start_due = 0.0

    @property
    def pid(self) -> int | None:
        """The pid; None while no server runs."""
        return self._running.pid if self._running is not None else None

    def start(self) -> None:
        """Start a process. Raises OSError when the system has no room for it."""
        ours, theirs = channels.pair()
        with contextlib.closing(theirs), closing_on_error(ours):
            pid = self._spawner.module("server", [theirs], {})
        # The watchdog must not wait for a server that hangs: it is the process that has to end it.
        ours.setblocking(False)
        self._running = _Running(pid, Outbox(Channel(ours)), self._clock())
        self._selector.register(ours, selectors.EVENT_READ, self._on_readable)

    def start_failed(self, error: OSError) -> None:
        """The process could not be started: try again later."""
        self._log.event(logging.ERROR, f"the server cannot be started: {error}; trying again")
        self.start_due = self._clock() + RESTART_DELAY_SECONDS

    def send(self, msg: Message, fds: Sequence[int] = ()) -> None:
        """Send a message now, or as soon as there is room. While no server runs, the message is dropped."""
        if self._running is not None:
            self._running.outbox.send(msg, fds)

    @property
    def flush_due(self) -> float:
        """When to call `flush`; infinity when no message waits."""
        waits = self._running is not None and bool(self._running.outbox)
        return self._clock() + FLUSH_INTERVAL_SECONDS if waits else float("inf")

    def flush(self) -> None:
        """Send the messages that wait, as far as there is room."""
        if self._running is not None:
            self._running.outbox.flush()

    def receive(self) -> Message | None:
        """The next message; None when there is none, or when the server has closed its end."""
        assert self._running is not None
        try:
            msg, fds = self._running.channel.receive()
        except BlockingIOError:
            return None
        except ChannelClosed:
            # The process may live for some time yet; its end is reported by waitpid(2), not by the channel.
            self._selector.unregister(self._running.channel)
            return None
        channels.close_all(fds)
        return msg

    def close(self) -> None:
        """Close the channel of a server that has ended, and forget the process."""
        if self._running is None:
            return
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._running.channel)
        self._running.outbox.discard()
        self._running.channel.close()
        self._running = None

    def died(self, status: int) -> None:
        """The server has ended though the instance does not stop: log why, and set when the next one starts."""
        assert self._running is not None
        pid, lived = self._running.pid, self._clock() - self._running.started
        self.close()
        cause = attributed_cause(status, "", self._oom_kills, self._clock())
        self._log.event(logging.ERROR, f"the server {pid} ended: {cause}; starting another one")
        self.restarts += 1
        self._early_deaths = self._early_deaths + 1 if lived < RESTART_DELAY_SECONDS else 0
        self.start_due = self._clock() + (RESTART_DELAY_SECONDS if self._early_deaths > 1 else 0.0)
