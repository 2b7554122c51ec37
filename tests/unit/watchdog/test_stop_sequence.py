"""The stop: in which order processes end, and how long each has; see `support.fake_processes`."""

from __future__ import annotations

import signal

from appsrv.ipc import messages
from appsrv.watchdog.stop_sequence import EXIT_SECONDS, SERVER_MARGIN_SECONDS
from support.fake_processes import KILLED, Harness, Scenario, ask_for_preloader


def test_graceful_stop_has_one_deadline(harness: Harness) -> None:
    allowed = 3.0 + 10.0 + SERVER_MARGIN_SECONDS

    def scenario() -> Scenario:
        harness.server.read()
        harness.signal(signal.SIGTERM)
        yield
        assert harness.server.read() == [messages.StopRequested(graceful=True)]
        harness.now += allowed - 0.5
        # Neither another signal nor a command begins the time anew.
        harness.signal(signal.SIGTERM)
        harness.server.send(messages.StopInstance())
        yield
        assert (harness.server.read(), harness.sent, harness.timeout) == ([], [], 0.5)
        harness.now += 0.5
        yield
        assert harness.sent == [(harness.server.pid, KILLED)]
        for process in harness.spawner.processes:
            harness.exits(process)
        yield

    assert harness.run(scenario(), settings=harness.settings(stop_delay=3.0, stop_timeout=10.0)) == 0
    assert f"the server {harness.server.pid} does not stop and is killed" in harness.log


def test_stop_that_a_command_asked_the_server_for(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.server.read()
        harness.server.send(messages.StopInstance())
        yield
        assert harness.server.read() == [messages.StopRequested(graceful=True)]
        # Requests are served until the end: a worker may still be needed for them.
        yield from ask_for_preloader(harness, 1, serial=7)
        assert harness.server.read_of(messages.PreloaderStarted)
        harness.exits(harness.server)
        for process in harness.processes("preloader"):
            harness.exits(process)
        yield

    assert harness.run(scenario()) == 0
    assert len(harness.processes("server")) == 1
    assert "starting another one" not in harness.log


def test_stop_at_once_starts_no_more_processes(harness: Harness) -> None:
    """The server waits for each worker that it has asked for, so it is told that none will come."""

    def scenario() -> Scenario:
        harness.server.read()
        harness.signal(signal.SIGINT)
        yield
        for serial in (0, 7):
            harness.server.send(messages.StartPreloader("shop", 2, serial))
        yield
        yield
        assert harness.server.read() == [
            messages.StopRequested(graceful=False), messages.PreloaderNotStarted("shop", 2, 7, "")
        ]
        # A second Ctrl-C.
        harness.all_pids = [harness.server.pid, 5001]
        harness.signal(signal.SIGINT)
        yield
        assert harness.sent == [(harness.server.pid, KILLED), (5001, KILLED)]
        for process in harness.spawner.processes:
            harness.exits(process, KILLED)
        yield

    assert harness.run(scenario()) == 0


def test_preloaders_have_the_rest_of_the_time_of_a_stop(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.signal(signal.SIGTERM)
        yield
        harness.now += 4.0
        harness.exits(harness.server)
        yield
        assert harness.sent == [(harness.preloader.pid, signal.SIGTERM)]
        harness.now += 5.9
        yield
        assert len(harness.sent) == 1
        harness.now += 0.1
        yield
        assert harness.sent[1:] == [(harness.preloader.pid, signal.SIGKILL)]
        harness.exits(harness.preloader, KILLED)
        yield

    assert harness.run(scenario(), settings=harness.settings(stop_timeout=10.0)) == 0


def test_preloaders_are_ended_also_when_no_time_is_left(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.signal(signal.SIGINT)
        yield
        harness.exits(harness.server)
        yield
        assert harness.sent == [(harness.preloader.pid, signal.SIGTERM)]
        harness.now += EXIT_SECONDS
        yield
        assert harness.sent[1:] == [(harness.preloader.pid, signal.SIGKILL)]
        harness.now += EXIT_SECONDS
        yield

    # Nothing more can be done about one that survives SIGKILL.
    assert harness.run(scenario()) == 0


def test_workers_without_preloader_are_ended_last(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.orphans = [5001]
        yield from harness.stop()
        assert harness.sent == [(5001, signal.SIGTERM)]
        harness.now += EXIT_SECONDS
        yield
        assert (5001, signal.SIGKILL) in harness.sent
        harness.orphans = []
        yield

    assert harness.run(scenario()) == 0
