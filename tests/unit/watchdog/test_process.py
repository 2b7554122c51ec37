"""The loop: messages of the server, signals, and the run directory; see `support.fake_processes`."""

from __future__ import annotations

import os
import shutil
import signal
import socket

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import AppLoadError, BootError
from appsrv.instance.kept_directory import CHECK_INTERVAL_SECONDS
from appsrv.ipc import messages
from appsrv.settings.table import Settings
from appsrv.system.hangup import SHELL_HANGUP_DELAY_SECONDS
from appsrv.watchdog.server_child import FLUSH_INTERVAL_SECONDS
from appsrv.watchdog.spawner import Development
from support.fake_processes import TERMINAL_SHELL, Scenario, World, ask_for_preloader

COMMAND = Development(["manage.py"], {"RUN_MAIN": "true"})


def test_booted(world: World) -> None:
    def scenario() -> Scenario:
        assert world.booted == 0
        world.server.send(messages.Booted("shop.settings"))
        yield
        assert world.booted == 1
        assert world.resources.info.settings_module == "shop.settings"
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_boot_failure_ends_the_instance_with_its_error(world: World) -> None:
    def scenario() -> Scenario:
        world.preloader.print_error("no module named shop\n")
        world.server.read()
        world.server.send(messages.BootFailed("cannot be imported", "", 4, world.preloader.pid))
        yield
        assert world.server.read() == [messages.StopRequested(graceful=False)]
        for process in world.spawner.processes:
            world.exits(process)
        yield

    with pytest.raises(AppLoadError, match="cannot be imported") as caught:
        world.run(scenario())
    assert caught.value.traceback == "no module named shop"


def test_boot_failure_with_a_traceback(world: World) -> None:
    def scenario() -> Scenario:
        world.server.send(messages.BootFailed("ends before it is ready", "Traceback", 3))
        yield
        yield from world.stop()

    with pytest.raises(BootError, match="ends before it is ready"):
        world.run(scenario())


def test_signals_on_behalf_of_the_server(world: World) -> None:
    def scenario() -> Scenario:
        world.all_pids = [5001]
        for pid in (5001, 5002):
            world.server.send(messages.SendSignal(pid, signal.SIGTERM))
        yield
        yield
        # Only processes of this instance get one.
        assert world.sent == [(5001, signal.SIGTERM)]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_last_lines_of_a_worker(world: World) -> None:
    def scenario() -> Scenario:
        out, err = os.pipe(), os.pipe()
        os.write(err[1], b"out of paper\n")
        world.server.read()
        # The question may come before the pipes of the worker do.
        world.server.send(messages.LastLinesRequested(5001))
        world.preloader.send(messages.OutputPipes(5001), [out[0], err[0]])
        for fd in (*out, *err):
            os.close(fd)
        yield
        assert world.server.read() == [messages.LastLines(5001, ["out of paper"])]
        world.server.send(messages.LastLinesRequested(5002))
        yield
        assert world.server.read() == [messages.LastLines(5002, [])]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_last_lines_are_asked_for_while_a_preloader_has_ended_and_is_not_reaped(world: World) -> None:
    def scenario() -> Scenario:
        world.server.read()
        world.preloader.to_watchdog.close()
        for pid in (5001, 5002):
            world.server.send(messages.LastLinesRequested(pid))
        yield
        yield
        assert world.server.read() == [messages.LastLines(5001, []), messages.LastLines(5002, [])]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_group_that_the_server_has_found(world: World) -> None:
    apps = world.directory / "apps"
    (apps / "blog").mkdir(parents=True)
    found, outside = (
        AppGroup(AppSpec(str(root), "app:application"), Settings(), str(root))
        for root in (apps / "blog", world.directory / "outside")
    )

    def scenario() -> Scenario:
        for group in (found, outside):
            world.server.send(messages.ServeGroup(group.to_json()))
            yield
            yield from ask_for_preloader(world, 1, group=group.name)
        assert messages.PreloaderStarted(found.name, 1, 0, world.preloader.pid) in world.server.received
        assert world.server.read() == [
            messages.PreloaderNotStarted(outside.name, 1, 0, f"{outside.name} is not to be served")
        ]
        world.server.send(messages.DropGroup(found.name))
        world.server.send(messages.DropGroup(outside.name))
        yield
        yield from ask_for_preloader(world, 2, group=found.name)
        assert world.server.read_of(messages.PreloaderNotStarted)
        yield from world.stop()

    assert world.run(scenario(), settings=world.settings(apps_directory=str(apps))) == 0
    assert f"{outside.name} is not in apps_directory and not served" in world.log


def test_service_manager_gets_the_state(world: World) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(world.directory / "notify"))
    manager.setblocking(False)
    world.environ |= {"NOTIFY_SOCKET": str(world.directory / "notify"), "WATCHDOG_USEC": "1000000"}

    def notified() -> list[str]:
        texts = []
        while True:
            try:
                texts.append(manager.recv(4096).decode().partition("\n")[0])
            except BlockingIOError:
                return texts

    def scenario() -> Scenario:
        (configure,) = world.server.read_of(messages.Configure)
        assert configure.pulse == 0.5
        assert "NOTIFY_SOCKET" not in world.preloader.environ
        world.server.send(messages.Booted())
        yield
        assert notified() == ["READY=1"]
        for state, expected in (
            ("serving", ["WATCHDOG=1", "STATUS=2 workers"]), ("restarting", ["WATCHDOG=1", "RELOADING=1"]),
            ("restarting", ["WATCHDOG=1"]), ("serving", ["WATCHDOG=1", "READY=1"]),
        ):
            world.server.send(messages.Pulse(state, "2 workers"))
            yield
            assert notified() == expected
        yield from world.stop()

    assert world.run(scenario()) == 0
    assert notified() == ["STOPPING=1"]
    manager.close()


# -- signals --------------------------------------------------------------------------------------------------------


def test_signals_that_the_server_gets_as_messages(world: World) -> None:
    def scenario() -> Scenario:
        world.server.read()
        for number, expected in (
            (signal.SIGTTIN, messages.ResizePool(1)), (signal.SIGTTOU, messages.ResizePool(-1)),
            (signal.SIGHUP, messages.RestartRequested()), (signal.SIGUSR1, messages.ReopenLogs()),
        ):
            if number == signal.SIGUSR1:
                os.rename(world.directory / "log", world.directory / "log.1")
            world.signal(number, sender=1)
            yield
            assert world.server.read() == [expected]
        assert "the server log was opened again" in world.log
        # The server can ask for the same.
        os.rename(world.directory / "log", world.directory / "log.2")
        world.server.send(messages.ReopenLogs())
        yield
        assert "the server log was opened again" in world.log
        assert world.server.read() == []
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_messages_wait_for_a_server_that_does_not_read(world: World) -> None:
    """The watchdog must not wait itself: it has to end a server that hangs."""
    sent = 5_000

    def scenario() -> Scenario:
        world.server.read()
        for _ in range(sent):
            world.signal(signal.SIGTTIN, sender=1)
        yield
        assert world.timeout == pytest.approx(FLUSH_INTERVAL_SECONDS)
        received = 0
        while received < sent:
            new = world.server.read_of(messages.ResizePool)
            assert new
            received += len(new)
            yield
        assert world.timeout is not None
        assert world.timeout > FLUSH_INTERVAL_SECONDS
        yield from world.stop()

    assert world.run(scenario()) == 0


@pytest.mark.parametrize("development", [None, COMMAND])
def test_terminal_that_is_closed_ends_the_instance(world: World, development: Development | None) -> None:
    def scenario() -> Scenario:
        world.server.read()
        # The shell sends SIGHUP; whether it has closed the terminal shows a moment later.
        world.signal(signal.SIGHUP, sender=TERMINAL_SHELL)
        yield
        assert world.server.read() == []
        assert world.timeout == pytest.approx(SHELL_HANGUP_DELAY_SECONDS)
        world.terminal_open = False
        world.now += SHELL_HANGUP_DELAY_SECONDS
        yield
        assert world.server.read() == [messages.StopRequested(graceful=development is None)]
        for process in world.spawner.processes:
            world.exits(process)
        yield

    assert world.run(scenario(), development=development) == 0
    assert "the terminal was closed" in world.log


def test_run_directory_that_was_removed_is_made_again(world: World) -> None:
    def scenario() -> Scenario:
        world.server.read()
        (group,) = world.groups
        assert os.path.dirname(group.multiproc) == str(world.resources.directory.path)
        shutil.rmtree(world.resources.directory.path)
        world.now += CHECK_INTERVAL_SECONDS
        yield
        assert world.server.read() == [messages.AdminSocket()]
        assert len(world.server.fds) == 2
        assert world.resources.directory.is_in_place()
        assert os.path.isdir(group.multiproc)
        yield from world.stop()

    assert world.run(scenario(), settings=world.settings(prometheus_multiproc=True)) == 0
