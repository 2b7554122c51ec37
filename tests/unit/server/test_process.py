"""process.py: what each message of the watchdog leads to, and how the builder joins the parts."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, messages
from appsrv.ipc.channel import Channel, Outbox
from appsrv.ipc.message_format import Message
from appsrv.server import process
from appsrv.server.pool.handles import RestartOutcome, signal_or_delegate
from appsrv.server.process import OUT_OF_DESCRIPTORS, Parts, Server
from appsrv.settings.table import Settings

# Above the largest pid that Linux gives (proc(5)): no process has it.
NOT_A_PID = 1 << 22
SETTINGS = Settings(probe_path="/up", ready_queue="portable")


class Notes:
    """A part in whose place it is put: notes each call as (name, arguments)."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(*arguments: Any, **keywords: Any) -> None:
            self.calls.append((name, *arguments, *keywords.values()))

        return note


class World:
    """A server whose parts only take notes, and the watchdog's end of its channel."""

    def __init__(self) -> None:
        ours, theirs = channels.pair()
        ours.setblocking(False)
        self.watchdog = Channel(theirs)
        self.watchdog.sock.setblocking(False)
        self.channel = Channel(ours)
        self.restarts: list[str] = []
        self.groups: Any = Notes(
            values=lambda: [self.group("one"), self.group("two")], state="running",
            one_line=lambda: "running: 2 workers",
        )
        self.frontend, self.shutdown = Notes(), Notes()
        self.admin, self.tls, self.access_log = Notes(), Notes(), Notes()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.server = self.make()

    def make(self, pulse: float = 0.0) -> Server:
        parts: dict[str, Any] = {
            "settings": SETTINGS, "watchdog": Outbox(self.channel), "frontend": self.frontend, "groups": self.groups,
            "shutdown": self.shutdown, "admin": self.admin, "app_watch": Notes(), "tls": self.tls,
            "access_log": self.access_log, "sockets": [(0, self.listening)],
        }
        return Server(Parts(**parts), pulse=pulse)

    def group(self, name: str) -> Any:
        """An application that restarts at once."""

        def restart(parallel: int | None, *, stop_first: bool) -> RestartOutcome:
            self.restarts.append(name)
            return RestartOutcome(True, 2 + (parallel or 0) + stop_first)

        return SimpleNamespace(restart=restart)

    def send(self, msg: Message, fds: list[int] | None = None) -> None:
        """Send this to the server, and have it read."""
        self.watchdog.send(msg, fds or [])
        self.server.read_messages()

    def sent(self) -> list[Message]:
        """The messages that the server has sent to the watchdog."""
        return [msg for msg, _ in self.watchdog.waiting()]

    def close(self) -> None:
        self.watchdog.close()
        self.channel.close()
        self.listening.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_reports_about_processes_go_to_the_applications(world: World) -> None:
    refused = messages.PreloaderNotStarted("shop", 1, 0, "no memory")
    world.send(messages.ProcessExited(77, 9))
    world.send(messages.LastLines(77, ["Killed"]))
    world.send(messages.ResizePool(-1))
    world.send(refused)
    read, write = os.pipe()
    started = messages.PreloaderStarted("shop", 1, 0, 78)
    world.send(started, [read])
    (*_, (name, given, fd)) = world.groups.calls
    assert (name, given) == ("preloader_started", started)
    os.write(write, b"x")
    assert os.read(fd, 1) == b"x", "its channel comes along"
    assert world.groups.calls[:-1] == [
        ("process_exited", 77, 9), ("last_lines", 77, ["Killed"]), ("resize", -1), ("preloader_not_started", refused),
    ]
    channels.close_all((read, write, fd))


def test_all_that_has_arrived_is_read_at_once(world: World) -> None:
    for pid in (1, 2, 3):
        world.watchdog.send(messages.ProcessExited(pid, 0))
    world.server.read_messages()
    assert [call[1] for call in world.groups.calls] == [1, 2, 3]


@pytest.mark.parametrize("graceful", [True, False])
def test_a_stop_begins(world: World, graceful: bool) -> None:
    world.send(messages.StopRequested(graceful))
    assert world.shutdown.calls == [("begin", graceful)]


def test_all_applications_are_restarted_one_after_the_other(world: World) -> None:
    world.send(messages.RestartRequested())
    assert world.restarts == [], "not before the next message is read"
    gevent.sleep(0)
    assert world.restarts == ["one", "two"]
    assert world.tls.calls == [("load",)], "the certificate is the instance's"


def test_a_restart_tells_the_service_manager_when_it_begins_and_ends(world: World) -> None:
    assert world.server.restart(world.group("one")).ok
    assert world.tls.calls == [("load",)]
    gevent.sleep(0)
    assert world.sent() == [], "there is no service manager"
    outcome = world.make(pulse=5.0).restart(world.group("one"), 3, stop_first=True)
    gevent.sleep(0)
    assert outcome.generation == 6
    assert world.sent() == [messages.Pulse("running", "running: 2 workers")] * 2


def test_logs_are_opened_again(world: World) -> None:
    world.send(messages.ReopenLogs())
    assert (world.groups.calls, world.access_log.calls) == ([("reopen_logs",)], [("reopen",)])


def test_commands_are_answered_on_a_new_admin_socket(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        world.send(messages.AdminSocket(), [listening.fileno()])
        ((name, adopted),) = world.admin.calls
        assert (name, adopted.getsockname()) == ("answer_on", listening.getsockname())
        adopted.close()


def test_what_a_server_is_never_sent_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.send(messages.StopInstance())
    assert "StopInstance" in caplog.text
    world.send(messages.ResizePool(1))
    assert world.groups.calls == [("resize", 1)]


def test_without_the_watchdog_the_server_ends_and_lets_another_one_listen(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.watchdog.send(messages.ResizePool(1))
    world.watchdog.close()
    world.server.read_messages()
    assert world.groups.calls == [("resize", 1)], "what was sent before counts"
    assert world.shutdown.calls == [("begin", False, True)]
    assert world.admin.calls == [("close_metrics_sockets",)]
    assert world.listening.fileno() == -1
    assert "the watchdog has ended" in caplog.text


def test_a_preloader_whose_channel_is_lost_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append((pid, number)))

    def lose(msg: Message) -> None:
        def receive(flags: int = 0) -> tuple[Message, list[int]]:
            raise channels.DescriptorsLost(msg.pack())

        monkeypatch.setattr(world.channel, "receive", receive)
        world.server.read_messages()

    lose(messages.PreloaderStarted("shop", 2, 0, NOT_A_PID))
    assert killed == [(NOT_A_PID, signal.SIGTERM)]
    assert world.groups.calls == [
        ("preloader_not_started", messages.PreloaderNotStarted("shop", 2, 0, OUT_OF_DESCRIPTORS))
    ]
    lose(messages.AdminSocket())
    assert len(world.groups.calls) == 1


# -- the builder ------------------------------------------------------------------------------------------------------


class Instance:
    """A server as the watchdog starts one, in a greenlet of this process; the test plays the watchdog."""

    def __init__(self, tmp_path: Path, settings: Settings = SETTINGS, *, pulse: float = 0.0) -> None:
        ours, theirs = channels.pair()
        self.watchdog = Channel(theirs)
        self.watchdog.sock.setblocking(False)
        self.group = AppGroup.alone(AppSpec(str(tmp_path), "app"), settings)
        configure = messages.Configure(
            settings=settings.to_json(), listeners=[_listener(1), _listener(2)],
            instance={"log_file": None}, run_directory=str(tmp_path), development=False, groups=1,
            metrics_sockets=0, pulse=pulse,
        )
        self.watchdog.send(messages.ServeGroup(self.group.to_json()))
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        for sock in self.sockets:
            sock.setblocking(False)
        self.channel = Channel(ours)
        self.server = process.build(self.channel, configure, self.sockets, None, answers=-1)
        self.running = gevent.spawn(self.server.run)

    def next(self, kind: type[Message]) -> Any:
        """The next message of this kind that the server sends."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for msg, _ in self.watchdog.waiting():
                if isinstance(msg, kind):
                    return msg
            gevent.sleep(0.005)
        raise AssertionError(f"no {kind.__name__}")

    def ask(self, request: bytes, listener: int = 0) -> bytes:
        """Send a request; all that comes back until the end of the connection."""
        client = gevent.socket.create_connection(self.sockets[listener].getsockname())
        client.settimeout(5)
        client.sendall(request)
        received = b""
        while data := client.recv(65536):
            received += data
        client.close()
        return received

    def end(self) -> None:
        """Have it stop, as at the end of the instance."""
        self.watchdog.send(messages.StopRequested(graceful=False))
        self.running.join(5)
        assert self.running.ready()
        self.watchdog.close()
        self.channel.close()
        for sock in self.sockets:
            sock.close()


def _listener(sockets: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": 0, "path": None, "tls": False, "sockets": sockets}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path)
    yield made
    made.end()


def test_the_first_thing_a_server_asks_for_is_a_preloader(instance: Instance) -> None:
    order = instance.next(messages.StartPreloader)
    assert (order.group, order.generation) == (instance.group.name, 1)
    instance.watchdog.send(messages.PreloaderNotStarted(order.group, order.generation, order.serial, "no memory"))
    assert "no memory" in instance.next(messages.BootFailed).message


def test_a_request_goes_to_the_hand_off_socket_with_the_number_of_its_listener(instance: Instance) -> None:
    instance.next(messages.StartPreloader)
    parts = instance.server.parts
    clients = [socket.create_connection(sock.getsockname()) for sock in instance.sockets]
    (backend,) = parts.frontend.backends
    receiver = channels.Receiver(backend.parking.theirs)
    listeners: list[int] = []
    while len(listeners) < 3:
        gevent.sleep(0.005)
        try:
            data, fds = receiver.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        channels.close_all(fds)
        listeners.append(connection_messages.HandOff.unpack(data).listener)
    assert sorted(listeners) == [0, 1, 1]
    for client in clients:
        client.close()


def test_a_state_is_sent_as_often_as_the_service_manager_wants_it(tmp_path: Path) -> None:
    made = Instance(tmp_path, pulse=0.05)
    first, second = made.next(messages.Pulse), made.next(messages.Pulse)
    assert first == second == messages.Pulse("booting", "booting: 0 workers, 0 busy, 0 waiting")
    made.end()


def test_where_no_application_is_a_probe_is_answered_by_the_server(tmp_path: Path) -> None:
    made = Instance(tmp_path, replace(SETTINGS, hosts=("shop.example",)))
    try:
        refused = made.ask(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 404 ")
        assert b"other.example" in refused
        assert made.ask(b"GET /up HTTP/1.1\r\nHost: other.example\r\n\r\n").endswith(b"ok\n")
    finally:
        made.end()


def test_numbers_of_listeners_are_repeated_for_each_of_their_sockets() -> None:
    one, two, three = sockets = [socket.socket() for _ in range(3)]
    assert process.numbered([_listener(1), _listener(2)], sockets) == [(0, one), (1, two), (1, three)]
    with pytest.raises(ValueError, match="zip"):
        process.numbered([_listener(1)], sockets)
    for sock in sockets:
        sock.close()


def test_a_privileged_signal_goes_to_the_watchdog(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    signal_or_delegate(NOT_A_PID, signal.SIGKILL)
    monkeypatch.undo()
    assert instance.next(messages.SendSignal) == messages.SendSignal(NOT_A_PID, signal.SIGKILL)
