"""A watchdog without processes: spawner, clock, signals and waitpid(2) are fakes; channels, pipes and files are real.

A test is a scenario: a generator that acts as the other processes. The watchdog runs its own loop; whenever it has
nothing to do, the scenario goes on to its next `yield`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.message_format import Message
from appsrv.logs.server_log import ServerLog
from appsrv.settings.table import Settings
from appsrv.system.hangup import Hangup
from appsrv.system.signals import Arrived, Signals
from appsrv.watchdog.assembly import Plan, groups_of, identities_of, resources_of, watchdog_of
from appsrv.watchdog.output_collector import Collector
from appsrv.watchdog.process_table import ProcessTable
from appsrv.watchdog.spawner import Development, Spawner

Scenario = Iterator[None]
M = TypeVar("M", bound=Message)
KILLED = int(signal.SIGKILL)
"""The wait status of a process that SIGKILL has ended."""
TERMINAL_SHELL = 77
"""The pid of the session leader, for `Hangup`."""


@dataclass
class FakeProcess:
    """What a process that was started would have: its ends of the channels, and of the pipes that it prints to."""

    pid: int
    kind: str
    channels: list[Channel]
    stdout: int
    stderr: int
    environ: Mapping[str, str] = field(default_factory=dict)
    received: list[Message] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)

    @property
    def to_watchdog(self) -> Channel:
        """Its channel to the watchdog: the last one that it inherits."""
        return self.channels[-1]

    def send(self, msg: Message, fds: Sequence[int] = ()) -> None:
        self.to_watchdog.send(msg, fds)

    def read(self) -> list[Message]:
        """What the watchdog has sent since the last call."""
        new = []
        with contextlib.suppress(ChannelClosed):
            for msg, fds in self.to_watchdog.waiting():
                new.append(msg)
                self.fds += fds
        self.received += new
        return new

    def read_of(self, kind: type[M]) -> list[M]:
        """Those of one kind; the others are dropped."""
        return [msg for msg in self.read() if isinstance(msg, kind)]

    def print_error(self, text: str) -> None:
        os.write(self.stderr, text.encode())

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        for fd in (self.stdout, self.stderr, *self.fds):
            os.close(fd)
        self.fds = []


class FakeSpawner:
    """In the place of `spawning.Spawner`. `full`: how many of the next starts fail for want of room."""

    def __init__(self, output: Collector) -> None:
        self.output = output
        self.processes: list[FakeProcess] = []
        self.full = 0

    def module(
        self, module: str, fds: Sequence[Any], environ: Mapping[str, str], *, log: ServerLog | None = None
    ) -> int:
        return self._start(module, fds, environ, log)

    def command(
        self, argv: Sequence[str], fds: Sequence[Any], environ: Mapping[str, str], *, log: ServerLog | None = None
    ) -> int:
        return self._start(argv[0], fds, environ, log)

    def _start(self, kind: str, fds: Sequence[Any], environ: Mapping[str, str], log: ServerLog | None) -> int:
        if self.full:
            self.full -= 1
            raise OSError("no room for another process")
        pid = 900_001 + len(self.processes)
        out, err = os.pipe(), os.pipe()
        channels = [Channel.from_fd(os.dup(sock.fileno())) for sock in fds]
        for channel in channels:
            channel.sock.setblocking(False)
        self.processes.append(FakeProcess(pid, kind, channels, out[1], err[1], environ))
        self.output.collect(pid, (out[0], err[0]), log)
        return pid


class FakeSignals:
    """In the place of `signals.Signals`."""

    def __init__(self) -> None:
        self.came: list[Arrived] = []
        self.before_take: Callable[[], None] = lambda: None
        """Called before the watchdog asks which signals came, after it has read from the channels."""

    def take(self) -> list[Arrived]:
        self.before_take()
        came, self.came = self.came, []
        return came


class ScriptedSelector(selectors.DefaultSelector):
    """Instead of waiting, it lets the scenario go on."""

    MOST_BUSY_TURNS = 500
    """A descriptor that is ready for ever keeps the scenario from going on: a defect, and the test fails."""

    def __init__(self, idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self._idle = idle
        self._busy_turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            self._busy_turns += 1
            assert self._busy_turns < self.MOST_BUSY_TURNS, f"ready for ever: {ready}"
            return ready
        self._busy_turns = 0
        self._idle(timeout)
        return super().select(0)


class Harness(ProcessTable):
    """Runs one watchdog, and is all that surrounds it. `sent` are the signals that it has sent: (pid, number)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1000.0
        self.timeout: float | None = None
        """How long the loop would have waited."""
        self.spawner: FakeSpawner
        self.signals = FakeSignals()
        self.sent: list[tuple[int, int]] = []
        self.all_pids: list[int] = []
        """Pids of all processes below the watchdog, as the kernel knows them."""
        self.orphans: list[int] = []
        """Pids of workers that have become the watchdog's own children."""
        self.killed_groups: list[int] = []
        self.terminal_open = True
        self.booted = 0
        self.environ = {"XDG_RUNTIME_DIR": str(directory / "run")}
        (directory / "run").mkdir(mode=0o700)
        self._ended: deque[tuple[int, int]] = deque()
        self._closed: set[int] = set()
        self._scenario: Scenario = iter(())

    # -- the instance -------------------------------------------------------------------------------------------------

    def settings(self, **changes: Any) -> Settings:
        """Those of the instance: it listens on a unix socket in `directory`."""
        usual = {"socket": str(self.directory / "sock"), "log_file": str(self.directory / "log")}
        return Settings(**{**usual, **changes})

    def group(self, name: str = "shop", **changes: Any) -> AppGroup:
        root = self.directory / name
        root.mkdir(exist_ok=True)
        return AppGroup(AppSpec(str(root), "app:application"), Settings(**changes), name)

    def run(
        self, scenario: Scenario, *, groups: Sequence[AppGroup] | None = None, settings: Settings | None = None,
        development: Development | None = None, problems: Mapping[str, str] | None = None,
    ) -> int:
        """Run a watchdog until the scenario has ended it; its exit code. Raises what it raises."""
        self._scenario = scenario
        plan = self.plan = Plan(
            settings or self.settings(), str(self.directory), [self.group()] if groups is None else groups,
            self.environ, development, problems or {},
        )
        identities = identities_of(plan)
        self.resources = resources_of(plan, identities)
        self.resources.open(None)
        self.groups = groups_of(plan, self.resources, identities)
        selector = ScriptedSelector(self._idle)
        output = Collector(selector, self.resources.log, self.clock)
        self.spawner = FakeSpawner(output)
        watchdog = watchdog_of(
            plan, self.resources, groups=self.groups, output=output, selector=selector,
            signals=cast(Signals, self.signals), hangup=self._make_hangup(), spawner=cast(Spawner, self.spawner),
            processes=self, clock=self.clock, on_booted=self._on_booted,
        )
        try:
            return watchdog.run()
        finally:
            output.finish()
            for process in self.spawner.processes:
                self._close(process)
            selector.close()
            self.resources.close()
            for log in self.groups.logs():
                log.close()

    def clock(self) -> float:
        return self.now

    def _make_hangup(self) -> Hangup:
        return Hangup(
            ignored=False, has_terminal=lambda: self.terminal_open, leader=TERMINAL_SHELL, exists=lambda _: True,
            clock=self.clock,
        )

    def _on_booted(self) -> None:
        self.booted += 1

    def _idle(self, timeout: float | None) -> None:
        self.timeout = timeout
        try:
            next(self._scenario)
        except StopIteration:
            raise AssertionError("the scenario is over, and the watchdog still runs") from None

    # -- in the place of `process_table.ProcessTable` ------------------------------------------------------------------

    def send_signal(self, pid: int, number: int) -> None:
        self.sent.append((pid, number))

    def descendants(self) -> list[int]:
        return self.all_pids

    def workers(self) -> list[int]:
        return self.orphans

    def kill_group(self, leader: int) -> None:
        self.killed_groups.append(leader)

    def reap(self) -> Iterator[tuple[int, int]]:
        while self._ended:
            yield self._ended.popleft()

    # -- what a scenario does -----------------------------------------------------------------------------------------

    def signal(self, number: int, sender: int | None = None) -> None:
        """A signal arrives."""
        self.signals.came.append(Arrived(number, sender))

    def exits(self, process: FakeProcess, status: int = 0) -> None:
        """The process ends; the watchdog can reap it."""
        self._close(process)
        self.reaps(process.pid, status)

    def reaps(self, pid: int, status: int = 0) -> None:
        """A child of the watchdog, such as a worker whose preloader has gone, has ended."""
        self._ended.append((pid, status))
        self.signal(signal.SIGCHLD)

    def processes(self, kind: str) -> list[FakeProcess]:
        """Those that were started, the oldest first."""
        return [process for process in self.spawner.processes if process.kind == kind]

    @property
    def server(self) -> FakeProcess:
        """The latest one."""
        return self.processes("server")[-1]

    @property
    def preloader(self) -> FakeProcess:
        """The latest one."""
        return self.processes("preloader")[-1]

    def stop(self) -> Scenario:
        """End the watchdog as SIGTERM does, with all its processes; the last steps of a scenario."""
        self.signal(signal.SIGTERM)
        yield
        for process in self.spawner.processes:
            if process.pid not in self._closed:
                self.exits(process)
        yield

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(encoding="utf-8")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _close(self, process: FakeProcess) -> None:
        if process.pid not in self._closed:
            self._closed.add(process.pid)
            process.read()
            process.close()


def exit_status(code: int) -> int:
    """The wait status of a process that has ended with this exit code."""
    return code << 8


def ask_for_preloader(harness: Harness, generation: int, serial: int = 0, group: str = "shop") -> Scenario:
    """The server asks for a preloader; afterwards the watchdog has handled the message."""
    harness.server.read()
    harness.server.send(messages.StartPreloader(group, generation, serial))
    yield
