"""The watchdog: what it starts, what it sends to whom, and how it ends; see `support.fake_processes`."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import AppLoadError, BootError
from appsrv.instance.kept_directory import CHECK_INTERVAL_SECONDS
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel
from appsrv.settings.internal_variables import STANDBY
from appsrv.settings.table import Settings
from appsrv.system.hangup import SHELL_HANGUP_DELAY_SECONDS
from appsrv.watchdog.assembly import notices
from appsrv.watchdog.server_child import RESTART_DELAY_SECONDS
from appsrv.watchdog.spawner import Development
from appsrv.watchdog.standby import SOON
from appsrv.watchdog.stop_sequence import EXIT_SECONDS, SERVER_MARGIN_SECONDS
from support.fake_processes import TERMINAL_SHELL, FakeProcess, Scenario, World

KILLED = int(signal.SIGKILL)
COMMAND = Development(["manage.py"], {"RUN_MAIN": "true"})


def exit_status(code: int) -> int:
    """As waitpid(2) gives it."""
    return code << 8


@pytest.fixture
def world() -> Iterator[World]:
    # A short path, since unix sockets are made below it.
    with tempfile.TemporaryDirectory() as directory:
        yield World(Path(directory))


def ask_for_preloader(world: World, generation: int, serial: int = 0, group: str = "shop") -> Scenario:
    """The server asks; afterwards it has read PreloaderStarted."""
    world.server.read()
    world.server.send(messages.StartPreloader(group, generation, serial))
    yield


# -- starting ---------------------------------------------------------------------------------------------------------


def test_server_and_first_preloader_start_together(world: World) -> None:
    def scenario() -> Scenario:
        assert [process.kind for process in world.spawner.processes] == ["preloader", "server"]
        configure, serve = world.server.read()
        assert isinstance(configure, messages.Configure)
        assert (configure.groups, configure.restarts, configure.development, configure.pulse) == (1, 0, False, 0.0)
        assert configure.problems == {"other": "no such directory"}
        with socket.socket(fileno=world.server.fds.pop()) as listening:
            assert listening.getsockname() == str(world.directory / "sock")
        assert isinstance(serve, messages.ServeGroup)
        assert (serve.generation, serve.last_generation, serve.have_preloader) == (0, 1, False)
        (configure,) = world.preloader.read_of(messages.Configure)
        assert (configure.groups, configure.problems) == (0, {})
        assert world.preloader.environ["APPSRV_ENV"] == "production"
        yield from ask_for_preloader(world, 1)
        # It runs already.
        assert world.server.read() == [messages.PreloaderStarted("shop", 1, 0, world.preloader.pid)]
        assert len(world.processes("preloader")) == 1
        # The descriptor that came along is the server's end of the channel to the preloader.
        to_preloader = Channel.from_fd(world.server.fds.pop())
        to_preloader.send(messages.Quit())
        assert world.preloader.channels[0].receive() == (messages.Quit(), [])
        to_preloader.close()
        yield from world.stop()

    assert world.run(scenario(), problems={"other": "no such directory"}) == 0
    assert list(notices(world.plan, world.groups, is_root=True)) == [
        (logging.WARNING, "the application runs as root: name another user with --user"),
        (logging.ERROR, "other is not served: no such directory"),
    ]


def test_preloaders_of_several_applications_start_when_the_server_asks(world: World) -> None:
    def scenario() -> Scenario:
        assert world.processes("preloader") == []
        assert len(world.server.read_of(messages.ServeGroup)) == 2
        yield from ask_for_preloader(world, 1, group="forum")
        (started,) = world.server.read()
        assert started == messages.PreloaderStarted("forum", 1, 0, world.preloader.pid)
        yield from world.stop()

    assert world.run(scenario(), groups=[world.group("shop"), world.group("forum")]) == 0


@pytest.mark.parametrize(("minimum", "processes"), [(0, 0), (1, 1)])
def test_with_direct_spawning_the_first_worker_starts_early(world: World, minimum: int, processes: int) -> None:
    def scenario() -> Scenario:
        assert len(world.processes("preloader")) == processes
        yield from ask_for_preloader(world, 1, serial=1)
        assert world.server.read() == [messages.PreloaderStarted("shop", 1, 1, world.preloader.pid)]
        assert len(world.processes("preloader")) == 1
        yield from world.stop()

    assert world.run(scenario(), groups=[world.group(spawn_method="direct", min_instances=minimum)]) == 0


def test_another_preloader_than_the_early_one(world: World) -> None:
    """The server asks for another generation first, as one does that was started again."""

    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 4)
        assert len(world.processes("preloader")) == 2
        assert world.server.read() == [messages.PreloaderStarted("shop", 4, 0, world.preloader.pid)]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_early_preloader_that_ends_before_the_server_asks(world: World) -> None:
    """The server gets to know of the process first, then of its end."""

    def scenario() -> Scenario:
        early = world.preloader
        world.server.read()
        world.exits(early, exit_status(1))
        yield
        assert world.server.read() == []
        yield from ask_for_preloader(world, 1)
        assert world.server.read() == [
            messages.PreloaderStarted("shop", 1, 0, early.pid), messages.ProcessExited(early.pid, exit_status(1))
        ]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_no_room_for_a_preloader(world: World) -> None:
    def scenario() -> Scenario:
        world.spawner.full = 1
        yield from ask_for_preloader(world, 2)
        yield from ask_for_preloader(world, 1, group="unknown")
        assert world.server.received[-1:] == [
            messages.PreloaderNotStarted("shop", 2, 0, "no room for another process")
        ]
        assert world.server.read() == [
            messages.PreloaderNotStarted("unknown", 1, 0, "unknown is not to be served")
        ]
        yield from world.stop()

    assert world.run(scenario()) == 0


# -- a server that ends -----------------------------------------------------------------------------------------------


def test_new_server_goes_on_with_the_preloader_of_the_generation_that_serves(world: World) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1)
        serving = world.preloader
        yield from ask_for_preloader(world, 2)
        failed = world.preloader
        world.server.send(messages.Serving("shop", 1))
        yield
        world.now += 60
        world.exits(world.server, KILLED)
        yield
        assert len(world.processes("server")) == 2
        configure, serve, started = world.server.read()
        assert isinstance(configure, messages.Configure)
        assert configure.restarts == 1
        assert isinstance(serve, messages.ServeGroup)
        assert (serve.generation, serve.last_generation, serve.have_preloader) == (1, 2, True)
        assert started == messages.PreloaderStarted("shop", 1, 0, serving.pid)
        assert world.sent == [(failed.pid, signal.SIGTERM)]
        yield from world.stop()

    assert world.run(scenario()) == 0
    assert f"the server {world.processes('server')[0].pid} ended: killed by SIGKILL" in world.log


def test_new_server_without_preloader_begins_with_the_generation_that_served(world: World) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1)
        yield from ask_for_preloader(world, 3)
        world.server.send(messages.Serving("shop", 3))
        yield
        for process in world.processes("preloader"):
            world.exits(process)
        yield
        world.exits(world.server, exit_status(1))
        yield
        (serve,) = world.server.read_of(messages.ServeGroup)
        assert (serve.generation, serve.last_generation, serve.have_preloader) == (3, 3, False)
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_worker_that_was_spawned_directly_is_of_no_use_to_a_new_server(world: World) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1, serial=1)
        worker = world.preloader
        world.exits(world.server, exit_status(1))
        yield
        (serve,) = world.server.read_of(messages.ServeGroup)
        assert not serve.have_preloader
        assert world.sent == [(worker.pid, signal.SIGTERM)]
        yield from world.stop()

    assert world.run(scenario(), groups=[world.group(spawn_method="direct")]) == 0


def test_servers_that_end_at_once_are_started_ever_more_slowly(world: World) -> None:
    def scenario() -> Scenario:
        world.exits(world.server, exit_status(1))
        yield
        assert len(world.processes("server")) == 2
        world.exits(world.server, exit_status(1))
        yield
        assert (len(world.processes("server")), world.timeout) == (2, RESTART_DELAY_SECONDS)
        world.now += RESTART_DELAY_SECONDS
        yield
        assert len(world.processes("server")) == 3
        world.now += RESTART_DELAY_SECONDS
        # This one has lived long enough.
        world.exits(world.server, exit_status(1))
        yield
        assert len(world.processes("server")) == 4
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_server_that_cannot_be_started_is_tried_again(world: World) -> None:
    def scenario() -> Scenario:
        world.spawner.full = 1
        world.exits(world.server, exit_status(1))
        yield
        assert world.timeout == RESTART_DELAY_SECONDS
        world.now += RESTART_DELAY_SECONDS
        yield
        assert len(world.processes("server")) == 2
        yield from world.stop()

    assert world.run(scenario()) == 0
    assert "the server cannot be started: no room for another process; trying again" in world.log


def test_end_of_the_channel_and_end_of_the_process_are_two_events(world: World) -> None:
    """A server may have closed its channel some time before it can be reaped."""

    def scenario() -> Scenario:
        for process in world.spawner.processes:
            process.to_watchdog.close()
        yield
        assert len(world.processes("server")) == 1
        for process in list(world.spawner.processes):
            world.exits(process)
        yield
        assert len(world.processes("server")) == 2
        yield from world.stop()

    assert world.run(scenario()) == 0


# -- messages of the server -------------------------------------------------------------------------------------------


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
        world.server.send(messages.LastWordsWanted(5001))
        world.preloader.send(messages.OutputPipes(5001), [out[0], err[0]])
        for fd in (*out, *err):
            os.close(fd)
        yield
        assert world.server.read() == [messages.LastWords(5001, ["out of paper"])]
        world.server.send(messages.LastWordsWanted(5002))
        yield
        assert world.server.read() == [messages.LastWords(5002, [])]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_last_lines_are_asked_for_while_a_preloader_has_ended_and_is_not_reaped(world: World) -> None:
    def scenario() -> Scenario:
        world.server.read()
        world.preloader.to_watchdog.close()
        for pid in (5001, 5002):
            world.server.send(messages.LastWordsWanted(pid))
        yield
        yield
        assert world.server.read() == [messages.LastWords(5001, []), messages.LastWords(5002, [])]
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


# -- signals ----------------------------------------------------------------------------------------------------------


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


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_graceful_stop_has_one_deadline(world: World) -> None:
    allowed = 3.0 + 10.0 + SERVER_MARGIN_SECONDS

    def scenario() -> Scenario:
        world.server.read()
        world.signal(signal.SIGTERM)
        yield
        assert world.server.read() == [messages.StopRequested(graceful=True)]
        world.now += allowed - 0.5
        # Neither another signal nor a command begins the time anew.
        world.signal(signal.SIGTERM)
        world.server.send(messages.StopInstance())
        yield
        assert (world.server.read(), world.sent, world.timeout) == ([], [], 0.5)
        world.now += 0.5
        yield
        assert world.sent == [(world.server.pid, KILLED)]
        for process in world.spawner.processes:
            world.exits(process)
        yield

    assert world.run(scenario(), settings=world.settings(stop_delay=3.0, stop_timeout=10.0)) == 0
    assert f"the server {world.server.pid} does not stop and is killed" in world.log


def test_stop_that_a_command_asked_the_server_for(world: World) -> None:
    def scenario() -> Scenario:
        world.server.read()
        world.server.send(messages.StopInstance())
        yield
        assert world.server.read() == [messages.StopRequested(graceful=True)]
        # Requests are served until the end: a worker may still be needed for them.
        yield from ask_for_preloader(world, 1, serial=7)
        assert world.server.read_of(messages.PreloaderStarted)
        world.exits(world.server)
        for process in world.processes("preloader"):
            world.exits(process)
        yield

    assert world.run(scenario()) == 0
    assert len(world.processes("server")) == 1


def test_stop_at_once_starts_no_more_processes(world: World) -> None:
    """The server waits for each worker that it has asked for, so it is told that none will come."""

    def scenario() -> Scenario:
        world.server.read()
        world.signal(signal.SIGINT)
        yield
        for serial in (0, 7):
            world.server.send(messages.StartPreloader("shop", 2, serial))
        yield
        yield
        assert world.server.read() == [
            messages.StopRequested(graceful=False), messages.PreloaderNotStarted("shop", 2, 7, "")
        ]
        # A second Ctrl-C.
        world.all_pids = [world.server.pid, 5001]
        world.signal(signal.SIGINT)
        yield
        assert world.sent == [(world.server.pid, KILLED), (5001, KILLED)]
        for process in world.spawner.processes:
            world.exits(process, KILLED)
        yield

    assert world.run(scenario()) == 0


def test_preloaders_have_the_rest_of_the_time_of_a_stop(world: World) -> None:
    def scenario() -> Scenario:
        world.signal(signal.SIGTERM)
        yield
        world.now += 4.0
        world.exits(world.server)
        yield
        assert world.sent == [(world.preloader.pid, signal.SIGTERM)]
        world.now += 5.9
        yield
        assert len(world.sent) == 1
        world.now += 0.1
        yield
        assert world.sent[1:] == [(world.preloader.pid, signal.SIGKILL)]
        world.exits(world.preloader, KILLED)
        yield

    assert world.run(scenario(), settings=world.settings(stop_timeout=10.0)) == 0


def test_preloaders_are_ended_also_when_no_time_is_left(world: World) -> None:
    def scenario() -> Scenario:
        world.signal(signal.SIGINT)
        yield
        world.exits(world.server)
        yield
        assert world.sent == [(world.preloader.pid, signal.SIGTERM)]
        world.now += EXIT_SECONDS
        yield
        assert world.sent[1:] == [(world.preloader.pid, signal.SIGKILL)]
        world.now += EXIT_SECONDS
        yield

    # Nothing more can be done about one that survives SIGKILL.
    assert world.run(scenario()) == 0


def test_workers_without_preloader_are_ended_last(world: World) -> None:
    def scenario() -> Scenario:
        world.orphans = [5001]
        yield from world.stop()
        assert world.sent == [(5001, signal.SIGTERM)]
        world.now += EXIT_SECONDS
        yield
        assert (5001, signal.SIGKILL) in world.sent
        world.orphans = []
        yield

    assert world.run(scenario()) == 0


# -- processes that end -----------------------------------------------------------------------------------------------


def test_preloader_and_worker_that_end(world: World) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1)
        preloader = world.preloader
        out, err = os.pipe(), os.pipe()
        preloader.send(messages.OutputPipes(5001), [out[0], err[0]])
        for fd in (*out, *err):
            os.close(fd)
        yield
        world.server.read()
        world.exits(preloader, KILLED)
        # Its worker is the watchdog's child now. What the application's own processes leave is none of its business.
        world.reaps(5001, exit_status(2))
        world.reaps(5002)
        yield
        assert world.server.read() == [
            messages.ProcessExited(preloader.pid, KILLED), messages.ProcessExited(5001, exit_status(2)),
            messages.ProcessExited(5002, 0),
        ]
        assert world.killed_groups == [5001]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_last_message_of_a_preloader_that_ends_in_the_same_turn(world: World) -> None:
    """It comes after the watchdog has read from the channels, and before it reaps."""

    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1)
        out, err = os.pipe(), os.pipe()
        os.write(err[1], b"out of paper\n")

        def end() -> None:
            world.signals.before_take = lambda: None
            world.preloader.send(messages.OutputPipes(5001), [out[0], err[0]])
            world.exits(world.preloader, KILLED)

        world.signals.before_take = end
        yield
        for fd in (*out, *err):
            os.close(fd)
        world.server.read()
        world.server.send(messages.LastWordsWanted(5001))
        yield
        assert world.server.read() == [messages.LastWords(5001, ["out of paper"])]
        yield from world.stop()

    assert world.run(scenario()) == 0


def test_run_directory_that_was_removed_is_made_again(world: World) -> None:
    def scenario() -> Scenario:
        world.server.read()
        shutil.rmtree(world.resources.directory.path)
        world.now += CHECK_INTERVAL_SECONDS
        yield
        assert world.server.read() == [messages.AdminSocket()]
        assert len(world.server.fds) == 2
        assert world.resources.directory.is_in_place()
        yield from world.stop()

    assert world.run(scenario()) == 0


# -- a development server ---------------------------------------------------------------------------------------------


def command(world: World) -> FakeProcess:
    return world.processes("manage.py")[-1]


def test_development_preloader_is_the_command_itself(world: World) -> None:
    def scenario() -> Scenario:
        started = command(world)
        assert started.environ["RUN_MAIN"] == "true"
        assert started.environ["APPSRV_BOOT"] == "1"
        assert len(started.environ["APPSRV_PRELOADER"].split(",")) == 2
        assert started.environ[STANDBY] == "go"
        assert started.read_of(messages.Configure)[0].development
        yield from ask_for_preloader(world, 2)
        assert command(world).environ["APPSRV_BOOT"] == "2"
        yield from world.stop()

    assert world.run(scenario(), development=COMMAND) == 0


def test_next_preloader_of_a_development_server_stands_by(world: World) -> None:
    order = messages.Prepare(["framework"])

    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1)
        command(world).send(order)
        yield
        assert world.timeout == SOON
        world.now += SOON
        yield
        standby = command(world)
        assert len(world.processes("manage.py")) == 2
        assert standby.environ[STANDBY] == "wait"
        assert standby.read() == [order]
        yield from ask_for_preloader(world, 2)
        assert world.server.read() == [messages.PreloaderStarted("shop", 2, 0, standby.pid)]
        assert len(standby.read_of(messages.Configure)) == 1
        # The one that is started next ends with the instance.
        world.now += 60
        yield
        unused = command(world)
        assert unused is not standby
        world.signal(signal.SIGTERM)
        yield
        assert world.sent == [(unused.pid, KILLED)]
        world.exits(world.server)
        for process in world.processes("manage.py"):
            world.exits(process)
        yield

    assert world.run(scenario(), development=COMMAND) == 0


def test_command_that_cannot_start_gives_its_exit_code(world: World) -> None:
    def scenario() -> Scenario:
        world.server.read()
        world.exits(command(world), exit_status(3))
        yield
        assert messages.StopRequested(graceful=False) in world.server.read()
        world.exits(world.server)
        yield

    assert world.run(scenario(), development=COMMAND) == 3


def test_command_that_ends_after_it_has_served_does_not_end_the_instance(world: World) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1)
        world.server.send(messages.Booted())
        yield
        world.server.read()
        ended = command(world)
        world.exits(ended, exit_status(3))
        yield
        assert world.server.read() == [messages.ProcessExited(ended.pid, exit_status(3))]
        yield from world.stop()

    assert world.run(scenario(), development=COMMAND) == 0


def test_prepare_counts_only_where_the_application_is_developed(world: World) -> None:
    def scenario() -> Scenario:
        world.preloader.send(messages.Prepare(["framework"]))
        yield
        world.now += SOON
        yield
        assert len(world.processes("preloader")) == 1
        yield from world.stop()

    assert world.run(scenario()) == 0
