"""Children of a development server: the framework's command as the preloader, and one that stands by."""

from __future__ import annotations

import signal

from appsrv.ipc import messages
from appsrv.settings.internal_variables import STANDBY
from appsrv.watchdog.spawner import Development
from appsrv.watchdog.standby import START_AFTER_LOAD_SECONDS
from support.fake_processes import KILLED, FakeProcess, Scenario, World, ask_for_preloader, exit_status

COMMAND = Development(["manage.py"], {"RUN_MAIN": "true"})


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
        assert world.timeout == START_AFTER_LOAD_SECONDS
        world.now += START_AFTER_LOAD_SECONDS
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


def test_only_the_first_command_can_end_the_instance(world: World) -> None:
    """Whatever keeps a later one from starting, the next save may mend it."""

    def scenario() -> Scenario:
        yield from ask_for_preloader(world, 1)
        yield from ask_for_preloader(world, 2)
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
        world.now += START_AFTER_LOAD_SECONDS
        yield
        assert len(world.processes("preloader")) == 1
        yield from world.stop()

    assert world.run(scenario()) == 0
