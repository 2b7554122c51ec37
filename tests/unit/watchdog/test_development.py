"""Children of a development server: the framework's command as the preloader, and one that stands by."""

from __future__ import annotations

import signal

from appsrv.ipc import messages
from appsrv.settings.internal_variables import STANDBY
from appsrv.watchdog.spawner import Development
from appsrv.watchdog.standby import START_AFTER_LOAD_SECONDS
from support.fake_processes import KILLED, FakeProcess, Harness, Scenario, ask_for_preloader, exit_status

COMMAND = Development(["manage.py"], {"RUN_MAIN": "true"})


def command(harness: Harness) -> FakeProcess:
    return harness.processes("manage.py")[-1]


def test_development_preloader_is_the_command_itself(harness: Harness) -> None:
    def scenario() -> Scenario:
        started = command(harness)
        assert started.environ["RUN_MAIN"] == "true"
        assert started.environ["APPSRV_BOOT"] == "1"
        assert len(started.environ["APPSRV_PRELOADER"].split(",")) == 2
        assert started.environ[STANDBY] == "go"
        assert started.read_of(messages.Configure)[0].development
        yield from ask_for_preloader(harness, 2)
        assert command(harness).environ["APPSRV_BOOT"] == "2"
        yield from harness.stop()

    assert harness.run(scenario(), development=COMMAND) == 0


def test_next_preloader_of_a_development_server_stands_by(harness: Harness) -> None:
    order = messages.Prepare(["framework"])

    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        command(harness).send(order)
        yield
        assert harness.timeout == START_AFTER_LOAD_SECONDS
        harness.now += START_AFTER_LOAD_SECONDS
        yield
        standby = command(harness)
        assert len(harness.processes("manage.py")) == 2
        assert standby.environ[STANDBY] == "wait"
        assert standby.read() == [order]
        yield from ask_for_preloader(harness, 2)
        assert harness.server.read() == [messages.PreloaderStarted("shop", 2, 0, standby.pid)]
        assert len(standby.read_of(messages.Configure)) == 1
        # The one that is started next ends with the instance.
        harness.now += 60
        yield
        unused = command(harness)
        assert unused is not standby
        harness.signal(signal.SIGTERM)
        yield
        assert harness.sent == [(unused.pid, KILLED)]
        harness.exits(harness.server)
        for process in harness.processes("manage.py"):
            harness.exits(process)
        yield

    assert harness.run(scenario(), development=COMMAND) == 0


def test_command_that_cannot_start_gives_its_exit_code(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.server.read()
        harness.exits(command(harness), exit_status(3))
        yield
        assert messages.StopRequested(graceful=False) in harness.server.read()
        harness.exits(harness.server)
        yield

    assert harness.run(scenario(), development=COMMAND) == 3


def test_command_that_ends_after_it_has_served_does_not_end_the_instance(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        harness.server.send(messages.Booted())
        yield
        harness.server.read()
        ended = command(harness)
        harness.exits(ended, exit_status(3))
        yield
        assert harness.server.read() == [messages.ProcessExited(ended.pid, exit_status(3))]
        yield from harness.stop()

    assert harness.run(scenario(), development=COMMAND) == 0


def test_only_the_first_command_can_end_the_instance(harness: Harness) -> None:
    """Whatever keeps a later one from starting, the next save may mend it."""

    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        yield from ask_for_preloader(harness, 2)
        harness.server.read()
        ended = command(harness)
        harness.exits(ended, exit_status(3))
        yield
        assert harness.server.read() == [messages.ProcessExited(ended.pid, exit_status(3))]
        yield from harness.stop()

    assert harness.run(scenario(), development=COMMAND) == 0


def test_prepare_counts_only_where_the_application_is_developed(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.preloader.send(messages.Prepare(["framework"]))
        yield
        harness.now += START_AFTER_LOAD_SECONDS
        yield
        assert len(harness.processes("preloader")) == 1
        yield from harness.stop()

    assert harness.run(scenario()) == 0
