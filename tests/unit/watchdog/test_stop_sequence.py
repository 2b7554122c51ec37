"""The stop: in which order processes end, and how long each has; see `support.fake_processes`."""

from __future__ import annotations

import signal

from appsrv.ipc import messages
from appsrv.watchdog.stop_sequence import EXIT_SECONDS, SERVER_MARGIN_SECONDS
from support.fake_processes import KILLED, Scenario, World, ask_for_preloader


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
    assert "starting another one" not in world.log


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
