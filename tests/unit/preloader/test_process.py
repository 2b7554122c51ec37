"""The preloader: what it sends to server and watchdog, when it forks, what it reaps, and when it ends.

A test is a scenario that acts as the server; see `support.fake_processes`. Forks and ends of workers are made up.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from appsrv import hooks
from appsrv.app_process import exit_functions, forked_child, own_lines
from appsrv.errors import AppLoadError, ProtocolError
from appsrv.ipc import channel as channels
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.message_format import Message
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.net.listening_sockets import Listener
from appsrv.preloader import process as module
from appsrv.preloader import setup, shared_state
from appsrv.preloader.forked_workers import ForkedWorkers
from appsrv.preloader.process import Preloader
from appsrv.settings.table import Settings
from appsrv.system import process_group, unpatched
from appsrv.worker.role import WorkerContext, WorkerRole

Scenario = Iterator[None]
Tell = Callable[[list[str]], None]
SLOTS, CELLS = 2, 1
LISTENERS = [Listener("127.0.0.1", 8000, sockets=1).to_json()]


def application(_environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


class FakeWorker:
    """In the place of `worker.Worker`: what this process would be from then on."""

    made: list[FakeWorker]

    def __init__(
        self, role: WorkerRole, context: WorkerContext, channel: Channel, slot: int, *, first: bool, check: bool,
        changes: Channel | None,
    ) -> None:
        self.role, self.context, self.channel, self.changes = role, context, channel, changes
        self.slot, self.first, self.check = slot, first, check
        self.ran = False
        FakeWorker.made.append(self)

    def run(self) -> None:
        self.ran = True
        self.context.close()
        self.channel.close()
        if self.changes is not None:
            self.changes.close()


class Watching:
    """A watch over the files of a development server: `worker.Watch`."""

    def __init__(self) -> None:
        self.code_changed: Tell | None = None
        self.seen: list[str] = []

    def __call__(self, code_changed: Tell, _files_changed: Tell, /) -> None:
        self.code_changed = code_changed

    def forget(self, paths: list[str], /) -> None:
        self.seen += paths


class Harness:
    """Runs one preloader, and is all that surrounds it.

    `pids` are those of the next forks. With 0, the test continues as the child.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        FakeWorker.made = []
        self.pids = deque(range(5001, 5100))
        self.forks = 0
        self.no_room = False
        self.complaints: list[str] = []
        self.killed_groups: list[int] = []
        self.before_fork = 0
        self.status_of: dict[int, int] = {}
        """Of the children that have ended and can be reaped."""
        self.lost: set[int] = set()
        """Children that the application has waited for itself."""
        self.server, preloader_to_server = self._pair()
        self.watchdog, preloader_to_watchdog = self._pair()
        self._ends = (preloader_to_server, preloader_to_watchdog)
        self._end_fds = [channel.fileno() for channel in self._ends]
        self._scenario: Scenario = iter(())
        for place, name, fake in (
            (module, "Worker", FakeWorker),
            (module, "set_title", lambda _: None), (module, "complain", self.complaints.append),
            (unpatched, "select", self._select),
            (forked_child, "on_fork", lambda _: None), (exit_functions, "reset_in_child", lambda: None),
            (shared_state, "reseed", lambda: None), (shared_state, "findings", list),
            (process_group, "kill_rest", self.killed_groups.append), (hooks, "run_before_fork", self._count_hook),
            (own_lines, "prepare_exit", lambda: None),
        ):
            monkeypatch.setattr(place, name, fake)

    @staticmethod
    def _pair() -> tuple[Channel, Channel]:
        ours, theirs = channels.pair()
        ours.setblocking(False)
        return Channel(ours), Channel(theirs)

    def run(
        self, scenario: Scenario, *, settings: Settings | None = None, load: Callable[[], Any] = lambda: application,
        **role: Any,
    ) -> Preloader:
        """Run a preloader until it ends or is a worker."""
        self._scenario = scenario
        given = WorkerRole("shop", application, settings or Settings(), LISTENERS, **{"development": False, **role})
        server, watchdog = self._ends
        workers = ForkedWorkers(self._fork, self._waitpid)
        process = Preloader(given, server=server, watchdog=watchdog, workers=workers)
        before = _open_fds() - set(self._end_fds)
        process.run(load)
        if process.loaded:
            # Such a preloader leaves its sockets open for its end to close them.
            for channel in self._ends:
                channel.close()
            channels.close_all(sorted(_open_fds() - before))
        for _ in scenario:
            raise AssertionError("the preloader has ended before its scenario")
        return process

    # -- what a scenario does -----------------------------------------------------------------------------------------

    def attach(self, server: int = 900) -> Scenario:
        """A server begins with this preloader; it has read the answer."""
        hand_off, ours = socket.socketpair()
        ours.close()
        board, (release, other) = Scoreboard.create(SLOTS, CELLS), os.pipe()
        self.server.send(messages.Attach(server, SLOTS, CELLS, "pipe"), [hand_off.fileno(), board.fd, release])
        hand_off.close()
        for fd in (board.fd, release, other):
            os.close(fd)
        yield

    def spawn(self, serial: int, *, become: bool = False, changes: bool = False) -> Scenario:
        """The server wants a worker."""
        ends = [channels.pair() for _ in range(2 if changes else 1)]
        order = messages.Spawn(serial, slot=1, first=serial == 1, become=become, check=True)
        self.server.send(order, [theirs.fileno() for _, theirs in ends])
        for ours, theirs in ends:
            ours.close()
            theirs.close()
        yield

    def exits(self, pid: int, status: int = 0) -> Scenario:
        """A worker ends."""
        self.status_of[pid] = status
        signal.raise_signal(signal.SIGCHLD)
        yield

    def read(self) -> list[Message]:
        """What the server has got since the last call."""
        return self._read(self.server)

    def read_by_watchdog(self) -> list[Message]:
        return self._read(self.watchdog)

    def _read(self, channel: Channel) -> list[Message]:
        new = []
        with contextlib.suppress(ChannelClosed):
            for msg, fds in channel.waiting():
                new.append(msg)
                channels.close_all(fds)
        return new

    # -- instead of the system ----------------------------------------------------------------------------------------

    def _fork(self) -> tuple[int, list[int]]:
        if self.no_room:
            raise OSError("no room for another process")
        self.forks += 1
        pid = self.pids.popleft()
        if pid == 0:
            return 0, []
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        channels.close_all((out_end, err_end))
        return pid, [out, err]

    def _waitpid(self, pid: int, options: int) -> tuple[int, int]:
        assert options == os.WNOHANG
        if pid in self.lost:
            raise ChildProcessError
        return (pid, self.status_of[pid]) if pid in self.status_of else (0, 0)

    def _select(self, fds: Sequence[int], *others: Any) -> tuple[list[int], list[int], list[int]]:
        ready = select.select(fds, [], [], 0)[0]
        while not ready:
            try:
                next(self._scenario)
            except StopIteration:
                raise AssertionError("the scenario is over, and the preloader still runs") from None
            ready = select.select(fds, [], [], 0)[0]
        return ready, [], []

    def _count_hook(self) -> None:
        self.before_fork += 1

    def close(self) -> None:
        for channel in (self.server, self.watchdog, *self._ends):
            channel.close()


def _open_fds() -> set[int]:
    listed = set(map(int, os.listdir("/dev/fd")))
    return {fd for fd in listed if _is_open(fd)}


def _is_open(fd: int) -> bool:
    # The listing has had a descriptor itself.
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGTERM)}
    made = Harness(monkeypatch)
    yield made
    made.close()
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.unfreeze()


# -- a preloader and its workers --------------------------------------------------------------------------------------


def test_forks_workers_and_reports_their_ends(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        assert harness.read() == [messages.Loaded(model=Settings().model, concurrency=Settings().concurrency)]
        yield from harness.spawn(1)
        yield from harness.spawn(2)
        assert harness.read() == [messages.Spawned(900, 1, 5001), messages.Spawned(900, 2, 5002)]
        # The watchdog gets the read ends of their stdout and stderr before the server can ask for their last lines.
        assert harness.read_by_watchdog() == [messages.OutputPipes(5001), messages.OutputPipes(5002)]
        yield from harness.exits(5002, 9)
        assert harness.read() == [messages.WorkerExited(900, 2, 5002, 9)]
        harness.server.send(messages.Quit())
        yield
        # It lives as long as its last worker.
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        yield from harness.exits(5001)

    process = harness.run(scenario())
    assert harness.read() == [messages.WorkerExited(900, 1, 5001, 0)]
    assert process.loaded
    assert (harness.before_fork, harness.killed_groups, FakeWorker.made) == (1, [], [])


def test_quit_without_workers(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        harness.server.send(messages.Quit())
        yield

    harness.run(scenario())
    assert harness.forks == 0


def test_no_room_for_a_worker(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        harness.read()
        harness.no_room = True
        yield from harness.spawn(1)
        assert harness.read() == [messages.Spawned(900, 1, -1, "no room for another process")]
        harness.server.send(messages.Quit())
        yield

    harness.run(scenario())


def test_child_that_the_application_has_waited_for(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        yield from harness.spawn(1)
        harness.read()
        harness.lost.add(5001)
        yield from harness.exits(5001, 9)
        # How it has ended is lost.
        assert harness.read() == [messages.WorkerExited(900, 1, 5001, 0)]
        harness.server.send(messages.Quit())
        yield

    harness.run(scenario())


def test_worker_of_a_generic_application_leaves_no_processes(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        yield from harness.spawn(1)
        yield from harness.exits(5001)
        harness.server.send(messages.Quit())
        yield

    harness.run(scenario(), upstream=object())
    assert harness.killed_groups == [5001]


# -- another server ---------------------------------------------------------------------------------------------------


def test_new_server_goes_on_with_the_preloader(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        yield from harness.spawn(1)
        harness.server.send(messages.Quit())
        yield
        harness.read()
        # The server that wanted it to end has died; the next one needs it.
        yield from harness.attach(server=901)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert len(harness.read()) == 1
        yield from harness.spawn(1)
        assert harness.read() == [messages.Spawned(901, 1, 5002)]
        # The worker of the server before is told apart by that server's pid.
        yield from harness.exits(5001)
        assert harness.read() == [messages.WorkerExited(900, 1, 5001, 0)]
        harness.server.send(messages.Quit())
        yield
        yield from harness.exits(5002)

    harness.run(scenario())


@pytest.mark.parametrize("which", ["server", "watchdog"])
def test_outlives_its_workers_where_server_or_watchdog_has_gone(harness: Harness, which: str) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        yield from harness.spawn(1)
        harness.read()
        getattr(harness, which).close()
        yield
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        yield from harness.exits(5001)

    harness.run(scenario())


@pytest.mark.parametrize("at_once", [True, False])
def test_reaps_all_workers_that_end_together_after_the_server(harness: Harness, at_once: bool) -> None:
    """There is one wake-up for all of them, `at_once` together with the end of the server."""

    def scenario() -> Scenario:
        yield from harness.attach()
        for serial in (1, 2, 3):
            yield from harness.spawn(serial)
        harness.server.close()
        if not at_once:
            yield
        harness.status_of.update(dict.fromkeys((5001, 5002), 0))
        yield from harness.exits(5003)

    harness.run(scenario())


# -- in a worker ------------------------------------------------------------------------------------------------------


def test_child_becomes_a_worker_and_keeps_nothing_of_the_preloader(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        yield from harness.spawn(1)
        harness.pids.appendleft(0)
        yield from harness.spawn(2, changes=True)

    before = signal.getsignal(signal.SIGCHLD)
    process = harness.run(scenario())
    (worker,) = FakeWorker.made
    assert worker.ran
    assert (worker.slot, worker.first, worker.check, worker.changes is not None) == (1, False, True, True)
    assert worker.role.application is application
    assert signal.getsignal(signal.SIGCHLD) == before
    assert process._server.fileno() == process._watchdog.fileno() == -1
    # The parent in the test has told the server of the first one alone.
    assert harness.read()[1:] == [messages.Spawned(900, 1, 5001)]


def test_with_direct_spawning_the_preloader_itself_becomes_the_worker(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from harness.attach()
        yield from harness.spawn(1, become=True)

    harness.run(scenario(), settings=Settings(spawn_method="direct"))
    (worker,) = FakeWorker.made
    assert (worker.ran, worker.first, harness.forks) == (True, True, 0)
    # Nothing is shared, so there is nothing to do before a fork.
    assert harness.before_fork == 0


def test_only_the_first_worker_of_a_development_server_is_marked(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_MAIN", "true")

    def scenario(serial: int) -> Scenario:
        yield from harness.attach()
        yield from harness.spawn(serial, become=True)

    harness.run(scenario(2), development=True)
    assert "RUN_MAIN" not in os.environ


# -- loading ----------------------------------------------------------------------------------------------------------


def failing() -> None:
    raise AppLoadError("no module named shop", "Traceback")


def test_application_that_cannot_be_loaded(harness: Harness) -> None:
    process = harness.run(iter(()), load=failing)
    assert harness.read() == [messages.LoadFailed("no module named shop", "Traceback", AppLoadError.exit_code)]
    assert not process.loaded


def test_failed_development_preloader_reports_changed_files(harness: Harness) -> None:
    watch = Watching()
    harness.run(iter(()), load=failing, watch=watch, development=True)
    assert watch.code_changed is not None
    harness.read()
    watch.code_changed(["shop/views.py"])
    assert harness.read() == [messages.CodeChanged(["shop/views.py"])]


def test_files_that_another_process_has_seen_change(harness: Harness) -> None:
    watch = Watching()

    def scenario() -> Scenario:
        yield from harness.attach()
        harness.server.send(messages.FilesChanged(["shop/base.html"]))
        yield
        assert watch.seen == ["shop/base.html"]
        harness.server.send(messages.Quit())
        yield

    harness.run(scenario(), watch=watch, development=True)


def test_warm_up_request(harness: Harness) -> None:
    paths = []

    def refusing(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        paths.append(environ["PATH_INFO"])
        start_response("404 Not Found", [])
        return []

    def scenario() -> Scenario:
        yield from harness.attach()
        harness.server.send(messages.Quit())
        yield

    harness.run(scenario(), settings=Settings(warm_up_path="/front"), load=lambda: refusing)
    assert paths == ["/front"]
    assert harness.complaints == ["the warm-up request GET /front was answered with 404"]


def test_first_message_has_to_be_the_configuration() -> None:
    ours, theirs = map(Channel, channels.pair())
    ours.send(messages.Prepare([]))
    with pytest.raises(ProtocolError, match="a Configure was to come, not a Prepare"):
        setup.configuration(theirs)
    ours.close()
    theirs.close()
