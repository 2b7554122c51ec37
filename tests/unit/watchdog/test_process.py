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
from support.fake_processes import TERMINAL_SHELL, Harness, Scenario, ask_for_preloader

COMMAND = Development(["manage.py"], {"RUN_MAIN": "true"})


def test_booted(harness: Harness) -> None:
    def scenario() -> Scenario:
        assert harness.booted == 0
        harness.server.send(messages.Booted("shop.settings"))
        yield
        assert harness.booted == 1
        assert harness.resources.info.settings_module == "shop.settings"
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_boot_failure_ends_the_instance_with_its_error(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.preloader.print_error("no module named shop\n")
        harness.server.read()
        harness.server.send(messages.BootFailed("cannot be imported", "", 4, harness.preloader.pid))
        yield
        assert harness.server.read() == [messages.StopRequested(graceful=False)]
        for process in harness.spawner.processes:
            harness.exits(process)
        yield

    with pytest.raises(AppLoadError, match="cannot be imported") as caught:
        harness.run(scenario())
    assert caught.value.traceback == "no module named shop"


def test_boot_failure_with_a_traceback(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.server.send(messages.BootFailed("ends before it is ready", "Traceback", 3))
        yield
        yield from harness.stop()

    with pytest.raises(BootError, match="ends before it is ready"):
        harness.run(scenario())


def test_signals_on_behalf_of_the_server(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.all_pids = [5001]
        for pid in (5001, 5002):
            harness.server.send(messages.SendSignal(pid, signal.SIGTERM))
        yield
        yield
        # Only processes of this instance get one.
        assert harness.sent == [(5001, signal.SIGTERM)]
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_last_lines_of_a_worker(harness: Harness) -> None:
    def scenario() -> Scenario:
        out, err = os.pipe(), os.pipe()
        os.write(err[1], b"out of paper\n")
        harness.server.read()
        # The question may come before the pipes of the worker do.
        harness.server.send(messages.LastLinesRequested(5001))
        harness.preloader.send(messages.OutputPipes(5001), [out[0], err[0]])
        for fd in (*out, *err):
            os.close(fd)
        yield
        assert harness.server.read() == [messages.LastLines(5001, ["out of paper"])]
        harness.server.send(messages.LastLinesRequested(5002))
        yield
        assert harness.server.read() == [messages.LastLines(5002, [])]
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_last_lines_are_asked_for_while_a_preloader_has_ended_and_is_not_reaped(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.server.read()
        harness.preloader.to_watchdog.close()
        for pid in (5001, 5002):
            harness.server.send(messages.LastLinesRequested(pid))
        yield
        yield
        assert harness.server.read() == [messages.LastLines(5001, []), messages.LastLines(5002, [])]
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_group_that_the_server_has_found(harness: Harness) -> None:
    apps = harness.directory / "apps"
    (apps / "blog").mkdir(parents=True)
    found, outside = (
        AppGroup(AppSpec(str(root), "app:application"), Settings(), str(root))
        for root in (apps / "blog", harness.directory / "outside")
    )

    def scenario() -> Scenario:
        for group in (found, outside):
            harness.server.send(messages.ServeGroup(group.to_json()))
            yield
            yield from ask_for_preloader(harness, 1, group=group.name)
        assert messages.PreloaderStarted(found.name, 1, 0, harness.preloader.pid) in harness.server.received
        assert harness.server.read() == [
            messages.PreloaderNotStarted(outside.name, 1, 0, f"{outside.name} is not to be served")
        ]
        harness.server.send(messages.DropGroup(found.name))
        harness.server.send(messages.DropGroup(outside.name))
        yield
        yield from ask_for_preloader(harness, 2, group=found.name)
        assert harness.server.read_of(messages.PreloaderNotStarted)
        yield from harness.stop()

    assert harness.run(scenario(), settings=harness.settings(apps_directory=str(apps))) == 0
    assert f"{outside.name} is not in apps_directory and not served" in harness.log


def test_service_manager_gets_the_state(harness: Harness) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(harness.directory / "notify"))
    manager.setblocking(False)
    harness.environ |= {"NOTIFY_SOCKET": str(harness.directory / "notify"), "WATCHDOG_USEC": "1000000"}

    def notified() -> list[str]:
        texts = []
        while True:
            try:
                texts.append(manager.recv(4096).decode().partition("\n")[0])
            except BlockingIOError:
                return texts

    def scenario() -> Scenario:
        (configure,) = harness.server.read_of(messages.Configure)
        assert configure.pulse == 0.5
        assert "NOTIFY_SOCKET" not in harness.preloader.environ
        harness.server.send(messages.Booted())
        yield
        assert notified() == ["READY=1"]
        for state, expected in (
            ("serving", ["WATCHDOG=1", "STATUS=2 workers"]), ("restarting", ["WATCHDOG=1", "RELOADING=1"]),
            ("restarting", ["WATCHDOG=1"]), ("serving", ["WATCHDOG=1", "READY=1"]),
        ):
            harness.server.send(messages.Pulse(state, "2 workers"))
            yield
            assert notified() == expected
        yield from harness.stop()

    assert harness.run(scenario()) == 0
    assert notified() == ["STOPPING=1"]
    manager.close()


# -- signals --------------------------------------------------------------------------------------------------------


def test_signals_that_the_server_gets_as_messages(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.server.read()
        for number, expected in (
            (signal.SIGTTIN, messages.ResizePool(1)), (signal.SIGTTOU, messages.ResizePool(-1)),
            (signal.SIGHUP, messages.RestartRequested()), (signal.SIGUSR1, messages.ReopenLogs()),
        ):
            if number == signal.SIGUSR1:
                os.rename(harness.directory / "log", harness.directory / "log.1")
            harness.signal(number, sender=1)
            yield
            assert harness.server.read() == [expected]
        assert "the server log was opened again" in harness.log
        # The server can ask for the same.
        os.rename(harness.directory / "log", harness.directory / "log.2")
        harness.server.send(messages.ReopenLogs())
        yield
        assert "the server log was opened again" in harness.log
        assert harness.server.read() == []
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_messages_wait_for_a_server_that_does_not_read(harness: Harness) -> None:
    """The watchdog must not wait itself: it has to end a server that hangs."""
    sent = 5_000

    def scenario() -> Scenario:
        harness.server.read()
        for _ in range(sent):
            harness.signal(signal.SIGTTIN, sender=1)
        yield
        assert harness.timeout == pytest.approx(FLUSH_INTERVAL_SECONDS)
        received = 0
        while received < sent:
            new = harness.server.read_of(messages.ResizePool)
            assert new
            received += len(new)
            yield
        assert harness.timeout is not None
        assert harness.timeout > FLUSH_INTERVAL_SECONDS
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_message_of_another_direction_is_logged(harness: Harness) -> None:
    def scenario() -> Scenario:
        for process in harness.spawner.processes:
            process.send(messages.StopRequested(graceful=True))
            yield
        yield
        assert harness.server.read_of(messages.StopRequested) == []
        yield from harness.stop()

    assert harness.run(scenario()) == 0
    assert harness.log.count("does not handle StopRequested") == 2


@pytest.mark.parametrize("development", [None, COMMAND])
def test_terminal_that_is_closed_ends_the_instance(harness: Harness, development: Development | None) -> None:
    def scenario() -> Scenario:
        harness.server.read()
        # The shell sends SIGHUP; whether it has closed the terminal shows a moment later.
        harness.signal(signal.SIGHUP, sender=TERMINAL_SHELL)
        yield
        assert harness.server.read() == []
        assert harness.timeout == pytest.approx(SHELL_HANGUP_DELAY_SECONDS)
        harness.terminal_open = False
        harness.now += SHELL_HANGUP_DELAY_SECONDS
        yield
        assert harness.server.read() == [messages.StopRequested(graceful=development is None)]
        for process in harness.spawner.processes:
            harness.exits(process)
        yield

    assert harness.run(scenario(), development=development) == 0
    assert "the terminal was closed" in harness.log


def test_run_directory_that_was_removed_is_made_again(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.server.read()
        (group,) = harness.groups
        assert os.path.dirname(group.multiproc) == str(harness.resources.directory.path)
        shutil.rmtree(harness.resources.directory.path)
        harness.now += CHECK_INTERVAL_SECONDS
        yield
        assert harness.server.read() == [messages.AdminSocket()]
        assert len(harness.server.fds) == 2
        assert harness.resources.directory.is_in_place()
        assert os.path.isdir(group.multiproc)
        yield from harness.stop()

    assert harness.run(scenario(), settings=harness.settings(prometheus_multiproc=True)) == 0
