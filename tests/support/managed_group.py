"""A Manager with the processes around it played by the test: watchdog, preloaders, workers and the front end.

No process is started and no port is opened: the channels are socket pairs, signals are recorded, the clock stands still
until the test moves it.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gevent
import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.http.response import Response
from appsrv.http.syntax import Limits
from appsrv.ipc import channel as channels
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard, Slot
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.frontend.parking import ClientConnection, parking
from appsrv.server.pool.group_context import GroupContext, GroupEvents
from appsrv.server.pool.handles import Failure, RestartOutcome
from appsrv.server.pool.manager import Manager
from appsrv.settings.table import Settings

NAME = "/apps/shop"
# Above any pid that the system gives (proc(5)).
FIRST_PID = 1 << 22
ROUNDS = 4
real_time = time.monotonic


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Timer:
    """A function that is due when the clock is moved."""

    due: float
    run: Callable[[], None]

    def kill(self, *, block: bool) -> None:
        assert not block
        self.run = lambda: None


@dataclass
class Client:
    """A client's connection; `answers` are the statuses that were sent to it, `closed` how it ended."""

    connection: ClientConnection
    answers: list[int] = field(default_factory=list)
    closed: str = ""


class FrontEnd:
    """The front end as the back end sees it; it records the answers."""

    def __init__(self) -> None:
        self.connections: dict[int, ClientConnection] = {}
        self.clients: dict[int, Client] = {}

    def in_lane(self, connection: ClientConnection, work: Callable[..., None], *arguments: Any) -> None:
        work(connection, *arguments)

    def send_fallback(self, connection: ClientConnection, fallback: Any, _head: object) -> None:
        response = fallback.respond({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})
        self.clients[connection.cid].answers.append(response.status)

    def read_on(self, connection: ClientConnection, _data: bytes) -> None:
        """A request that was read while nothing can serve it: the fallback answers it."""
        assert connection.backend is not None
        if connection.backend.fallback.active:
            self.send_fallback(connection, connection.backend.fallback, None)

    def refuse(self, connection: ClientConnection, response: Response, _seen: bytes = b"") -> None:
        self.clients[connection.cid].answers.append(response.status)

    def answer_now(self, connection: ClientConnection, response: Response, _seen: bytes) -> None:
        self.clients[connection.cid].answers.append(response.status)

    def close(self, connection: ClientConnection, *, reset: bool = False) -> None:
        self.clients[connection.cid].closed = "reset" if reset else "closed"
        self.connections.pop(connection.cid, None)
        if connection.backend is not None:
            connection.backend.release(connection)
        connection.sock.close()


class PlayedWorker:
    """A worker that a preloader was ordered to fork."""

    def __init__(self, group: ManagedGroup, preloader: PlayedPreloader, order: messages.Spawn, fds: list[int]) -> None:
        self.order = order
        self.serial = order.serial
        self.pid = 0
        self.slot: Slot = group.board.slot(order.slot)
        self.channel = Channel.from_fd(fds[0])
        self.channel.sock.setblocking(False)
        self.changes = [Channel.from_fd(fd) for fd in fds[1:]]
        group.played.append(self)
        self._group = group
        self._preloader = preloader

    def forked(self) -> PlayedWorker:
        """fork(2) has succeeded."""
        self.pid = self._group.next_pid()
        self._preloader.say(messages.Spawned(os.getpid(), self.serial, self.pid))
        return self

    def ready(self) -> PlayedWorker:
        """It waits for its first request."""
        self.say(messages.Ready(self.pid))
        return self

    def say(self, msg: Message) -> None:
        self.channel.send(msg)
        self._group.settle()

    def serve(self, client: Client, *, begun: bool = False) -> None:
        """A request is in it."""
        cell = self.slot.cell(0)
        cell.begin(client.connection.cid, self._group.clock())
        cell.line(b"GET /cart?key=secret HTTP/1.1\r\n")
        if begun:
            cell.begun()

    def served(self) -> None:
        """The request has been answered."""
        self.slot.cell(0).end(self._group.clock(), 1)

    def exit(self, status: int = 0) -> None:
        """The process has ended, and its preloader has reaped it."""
        self.close()
        self._preloader.say(messages.WorkerExited(os.getpid(), self.serial, self.pid, status))

    def close(self) -> None:
        self.channel.close()
        for channel in self.changes:
            channel.close()

    @property
    def signals(self) -> list[int]:
        """The signals that it was sent."""
        return [number for pid, number in self._group.signals if pid == self.pid and number]


class PlayedPreloader:
    """The process that the watchdog has started for a generation."""

    def __init__(self, group: ManagedGroup, generation: int, serial: int) -> None:
        ours, theirs = channels.pair()
        ours.setblocking(False)
        group.played.append(self)
        self.pid = group.next_pid()
        self.generation = generation
        self.serial = serial
        self.channel = Channel(ours)
        self.heard: list[str] = []
        self._group = group
        self._orders: list[PlayedWorker] = []
        started = messages.PreloaderStarted(NAME, generation, serial, self.pid)
        group.manager.preloader_started(started, theirs.detach())

    def say(self, msg: Message) -> None:
        self.channel.send(msg)
        self._group.settle()

    def loaded(self, **fields: Any) -> PlayedPreloader:
        """It has imported the application."""
        self.say(messages.Loaded(**fields))
        return self

    def failed(self, why: str, traceback: str = "") -> None:
        """The application cannot be imported."""
        self.say(messages.LoadFailed(why, traceback, 4))

    def read(self) -> list[str]:
        """The names of all orders so far."""
        for order, fds in self.channel.waiting():
            self.heard.append(type(order).__name__)
            if isinstance(order, messages.Spawn):
                self._orders.append(PlayedWorker(self._group, self, order, fds))
            else:
                channels.close_all(fds)
        return self.heard

    def orders(self) -> list[PlayedWorker]:
        """The workers that it was ordered to fork since the last call."""
        self.read()
        orders, self._orders = self._orders, []
        return orders

    def fork(self) -> PlayedWorker:
        """The one worker that it was ordered to fork, which now has its process."""
        (worker,) = self.orders()
        return worker.forked()

    @property
    def signals(self) -> list[int]:
        """The signals that it was sent."""
        return [number for pid, number in self._group.signals if pid == self.pid and number]

    def close(self) -> None:
        if self.channel.fileno() >= 0:
            self.read()
            self.channel.close()

    def exit(self, status: int = 0) -> None:
        """The process has ended, and the watchdog has reaped it."""
        self.close()
        self._group.manager.process_exited(self.pid, status)
        self._group.settle()


class ManagedGroup:
    """`told` is what the watchdog was sent, `signals` are (pid, number), `events` how the first boot has gone on."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, development: bool = False, routed: bool = False, **settings: Any
    ) -> None:
        self.clock = Clock()
        self.told: list[Message] = []
        self.events: list[str] = []
        self.looks: list[bool] = []
        self.signals: list[tuple[int, int]] = []
        self.forbidden: set[int] = set()
        self.dead: set[int] = set()
        self.failure: Failure | None = None
        self.room = 1 << 30
        self.ended = False
        self.frontend = FrontEnd()
        self.board = Scoreboard.create(16, 1)
        self.backend: BackEnd
        self.stacks: list[int] = []
        self.played: list[PlayedPreloader | PlayedWorker] = []
        self._timers: list[Timer] = []
        self._clients_ends: list[socket.socket] = []
        self._last_pid = FIRST_PID
        self._last_cid = 0
        monkeypatch.setattr("os.kill", self._kill)
        group = AppGroup(AppSpec(NAME, "app"), replace(Settings(), **settings), NAME)
        self.backend = BackEnd(
            self.frontend, parking("watched", self.board, self.clock), Limits(),  # type: ignore[arg-type]
            admit=lambda: self.manager.queue.admit(), busy=lambda: self.manager.workers.busy(),
        )
        self.manager = Manager(
            GroupContext(
                group, development=development, board=self.board, backend=self.backend, events=self._events(),
                send_to_watchdog=self.told.append, stacks_of=self._stacks_of, now=self.clock, later=self._later,
                routes=[self.board.fd] if routed else [], room=lambda: self.room,
            )
        )

    # -- the collaborators --------------------------------------------------------------------------------------------

    def _events(self) -> GroupEvents:
        return GroupEvents(
            booted=lambda: self.events.append("booted"), boot_failed=self._boot_failed,
            load_ended=lambda: self.events.append("load ended"), observed=self.looks.append,
            process_ended=lambda: self.events.append("process ended"),
        )

    def _boot_failed(self, failure: Failure) -> None:
        self.events.append("boot failed")
        self.failure = failure

    def _kill(self, pid: int, number: int) -> None:
        assert pid >= FIRST_PID, "a signal to a process that the test has not made"
        if pid in self.dead:
            raise ProcessLookupError(3, "No such process")
        if pid in self.forbidden:
            raise PermissionError(1, "Operation not permitted")
        self.signals.append((pid, number))

    def _later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> Timer:
        self._timers.append(Timer(self.clock() + seconds, lambda: function(*arguments)))
        return self._timers[-1]

    def _stacks_of(self, pid: int) -> list[str]:
        self.stacks.append(pid)
        return ["views.py, line 3, in cart"]

    def next_pid(self) -> int:
        self._last_pid += 1
        return self._last_pid

    # -- what the test does -------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let the event loop deal with all that was sent."""
        for _ in range(ROUNDS):
            gevent.idle()

    def until(self, question: Callable[[], object], what: str) -> None:
        """Let the event loop run until the answer is true."""
        deadline = real_time() + 5
        while not question():
            assert real_time() < deadline, f"waited in vain for: {what}"
            gevent.sleep(0.001)

    def look(self, after: float = 0.0) -> None:
        """Let the time pass and the manager look at the scoreboard and the queue."""
        self.clock.advance(after)
        due = [timer for timer in self._timers if timer.due <= self.clock()]
        self._timers = [timer for timer in self._timers if timer.due > self.clock()]
        for timer in due:
            timer.run()
        # As a request that arrives: looks come often for a while.
        self.backend.admit()
        seen = len(self.looks)
        self.until(lambda: len(self.looks) > seen, "a look")

    def asked(self) -> list[tuple[int, int]]:
        """(generation, serial) of the preloaders that the watchdog was asked for since the last call."""
        asked = [(msg.generation, msg.serial) for msg in self.told if isinstance(msg, messages.StartPreloader)]
        self.told[:] = [msg for msg in self.told if not isinstance(msg, messages.StartPreloader)]
        return asked

    def preloader(self, generation: int = 1, serial: int = 0) -> PlayedPreloader:
        """The watchdog starts the preloader that it was asked for, and none else."""
        assert self.asked() == [(generation, serial)]
        return PlayedPreloader(self, generation, serial)

    def not_started(self, generation: int, serial: int = 0, reason: str = "no memory") -> None:
        """The watchdog could not start the one that it was asked for."""
        assert self.asked() == [(generation, serial)]
        self.manager.preloader_not_started(messages.PreloaderNotStarted(NAME, generation, serial, reason))
        self.settle()

    def client(self, *, gone: bool = False) -> Client:
        """A client whose connection belongs to the group; or one that has closed it."""
        self._last_cid += 1
        ours, theirs = socket.socketpair()
        if gone:
            theirs.close()
        else:
            self._clients_ends.append(theirs)
        connection = ClientConnection(self._last_cid, ours, "192.0.2.1", 40000, 0)
        self.frontend.connections[connection.cid] = connection
        self.backend.adopt(connection)
        self.frontend.clients[connection.cid] = Client(connection)
        return self.frontend.clients[connection.cid]

    def request(self) -> Client:
        """A client whose request waits for a worker."""
        client = self.client()
        self.backend.push_new(client.connection)
        return client

    def restart(self, **arguments: Any) -> gevent.Greenlet[..., RestartOutcome]:
        """restart-app, which returns its outcome."""
        greenlet: gevent.Greenlet[..., RestartOutcome] = gevent.spawn(self.manager.restart, **arguments)
        self.settle()
        return greenlet

    def serving(self) -> tuple[PlayedPreloader, PlayedWorker]:
        """Boot to the end: the preloader of the first generation and its worker, which is ready."""
        self.manager.boot(0, 0, have_preloader=False)
        preloader = self.preloader().loaded()
        return preloader, preloader.fork().ready()

    def end(self) -> None:
        """All processes have ended, nothing is left open."""
        self.ended = True
        self.manager.close()
        while self.played:
            self.played.pop().close()
        for preloader in list(self.manager.preloaders):
            self.manager.process_exited(preloader.pid, 0)
        for worker in list(self.manager.workers.values()):
            self.manager.workers.forget(worker)
        self.manager.discard()
        for end in self._clients_ends:
            end.close()

    @property
    def states(self) -> Sequence[str]:
        """The states of all workers, by their age."""
        return [self.manager.worker_state(handle) for handle in self.manager.workers.values()]


def outcome_of(greenlet: gevent.Greenlet[..., RestartOutcome]) -> RestartOutcome:
    """The outcome of a restart that is over."""
    outcome = greenlet.get(block=True, timeout=5)
    assert outcome is not None
    return outcome


KILLED = int(signal.SIGKILL)
