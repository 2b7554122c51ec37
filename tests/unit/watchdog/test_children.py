"""Starting and reaping: what is started when, and what a new server learns; see `support.fake_processes`."""

from __future__ import annotations

import logging
import os
import signal
import socket

import pytest

from appsrv.ipc import messages
from appsrv.ipc.channel import Channel
from appsrv.watchdog.assembly import notices
from appsrv.watchdog.server_child import RESTART_DELAY_SECONDS
from support.fake_processes import KILLED, Harness, Scenario, ask_for_preloader, exit_status


def test_server_and_first_preloader_start_together(harness: Harness) -> None:
    def scenario() -> Scenario:
        assert [process.kind for process in harness.spawner.processes] == ["preloader", "server"]
        configure, serve = harness.server.read()
        assert isinstance(configure, messages.Configure)
        assert (configure.groups, configure.restarts, configure.development, configure.pulse) == (1, 0, False, 0.0)
        assert configure.problems == {"other": "no such directory"}
        with socket.socket(fileno=harness.server.fds.pop()) as listening:
            assert listening.getsockname() == str(harness.directory / "sock")
        assert isinstance(serve, messages.ServeGroup)
        assert (serve.generation, serve.last_generation, serve.have_preloader) == (0, 1, False)
        (configure,) = harness.preloader.read_of(messages.Configure)
        assert (configure.groups, configure.problems) == (0, {})
        assert harness.preloader.environ["APPSRV_ENV"] == "production"
        yield from ask_for_preloader(harness, 1)
        # It runs already.
        assert harness.server.read() == [messages.PreloaderStarted("shop", 1, 0, harness.preloader.pid)]
        assert len(harness.processes("preloader")) == 1
        # The descriptor that came along is the server's end of the channel to the preloader.
        to_preloader = Channel.from_fd(harness.server.fds.pop())
        to_preloader.send(messages.Quit())
        assert harness.preloader.channels[0].receive() == (messages.Quit(), [])
        to_preloader.close()
        yield from harness.stop()

    assert harness.run(scenario(), problems={"other": "no such directory"}) == 0
    assert list(notices(harness.plan, harness.groups, is_root=True)) == [
        (logging.WARNING, "the application runs as root: name another user with --user"),
        (logging.ERROR, "other is not served: no such directory"),
    ]


def test_preloaders_of_several_applications_start_when_the_server_asks(harness: Harness) -> None:
    def scenario() -> Scenario:
        assert harness.processes("preloader") == []
        assert len(harness.server.read_of(messages.ServeGroup)) == 2
        yield from ask_for_preloader(harness, 1, group="forum")
        (started,) = harness.server.read()
        assert started == messages.PreloaderStarted("forum", 1, 0, harness.preloader.pid)
        yield from harness.stop()

    assert harness.run(scenario(), groups=[harness.group("shop"), harness.group("forum")]) == 0


@pytest.mark.parametrize(("minimum", "processes"), [(0, 0), (1, 1)])
def test_with_direct_spawning_the_first_worker_starts_early(harness: Harness, minimum: int, processes: int) -> None:
    def scenario() -> Scenario:
        assert len(harness.processes("preloader")) == processes
        yield from ask_for_preloader(harness, 1, serial=1)
        assert harness.server.read() == [messages.PreloaderStarted("shop", 1, 1, harness.preloader.pid)]
        assert len(harness.processes("preloader")) == 1
        yield from harness.stop()

    assert harness.run(scenario(), groups=[harness.group(spawn_method="direct", min_instances=minimum)]) == 0


def test_another_preloader_than_the_early_one(harness: Harness) -> None:
    """The server asks for another generation first, as one does that was started again."""

    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 4)
        assert len(harness.processes("preloader")) == 2
        assert harness.server.read() == [messages.PreloaderStarted("shop", 4, 0, harness.preloader.pid)]
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_early_preloader_that_ends_before_the_server_asks(harness: Harness) -> None:
    """The server gets to know of the process first, then of its end."""

    def scenario() -> Scenario:
        early = harness.preloader
        harness.server.read()
        harness.exits(early, exit_status(1))
        yield
        assert harness.server.read() == []
        yield from ask_for_preloader(harness, 1)
        assert harness.server.read() == [
            messages.PreloaderStarted("shop", 1, 0, early.pid), messages.ProcessExited(early.pid, exit_status(1))
        ]
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_no_room_for_a_preloader(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.spawner.full = 1
        yield from ask_for_preloader(harness, 2)
        yield from ask_for_preloader(harness, 1, group="unknown")
        assert harness.server.received[-1:] == [
            messages.PreloaderNotStarted("shop", 2, 0, "no room for another process")
        ]
        assert harness.server.read() == [
            messages.PreloaderNotStarted("unknown", 1, 0, "unknown is not to be served")
        ]
        yield from harness.stop()

    assert harness.run(scenario()) == 0


# -- a server that ends ---------------------------------------------------------------------------------------------


def test_new_server_goes_on_with_the_preloader_of_the_generation_that_serves(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        before = harness.preloader
        yield from ask_for_preloader(harness, 2)
        serving = harness.preloader
        yield from ask_for_preloader(harness, 3)
        failed = harness.preloader
        harness.server.send(messages.Serving("shop", 2))
        yield
        harness.now += 60
        harness.exits(harness.server, KILLED)
        yield
        assert len(harness.processes("server")) == 2
        configure, serve, started = harness.server.read()
        assert isinstance(configure, messages.Configure)
        assert configure.restarts == 1
        assert isinstance(serve, messages.ServeGroup)
        assert (serve.generation, serve.last_generation, serve.have_preloader) == (2, 3, True)
        assert started == messages.PreloaderStarted("shop", 2, 0, serving.pid)
        assert harness.sent == [(before.pid, signal.SIGTERM), (failed.pid, signal.SIGTERM)]
        yield from harness.stop()

    assert harness.run(scenario()) == 0
    assert f"the server {harness.processes('server')[0].pid} ended: killed by SIGKILL" in harness.log


def test_new_server_without_preloader_begins_with_the_generation_that_served(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        yield from ask_for_preloader(harness, 3)
        harness.server.send(messages.Serving("shop", 3))
        yield
        for process in harness.processes("preloader"):
            harness.exits(process)
        yield
        harness.exits(harness.server, exit_status(1))
        yield
        (serve,) = harness.server.read_of(messages.ServeGroup)
        assert (serve.generation, serve.last_generation, serve.have_preloader) == (3, 3, False)
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_worker_that_was_spawned_directly_is_of_no_use_to_a_new_server(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1, serial=1)
        worker = harness.preloader
        harness.exits(harness.server, exit_status(1))
        yield
        (serve,) = harness.server.read_of(messages.ServeGroup)
        assert not serve.have_preloader
        assert harness.sent == [(worker.pid, signal.SIGTERM)]
        yield from harness.stop()

    assert harness.run(scenario(), groups=[harness.group(spawn_method="direct")]) == 0


def test_servers_that_end_at_once_are_started_ever_more_slowly(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.exits(harness.server, exit_status(1))
        yield
        assert len(harness.processes("server")) == 2
        harness.exits(harness.server, exit_status(1))
        yield
        assert (len(harness.processes("server")), harness.timeout) == (2, RESTART_DELAY_SECONDS)
        harness.now += RESTART_DELAY_SECONDS
        yield
        assert len(harness.processes("server")) == 3
        harness.now += RESTART_DELAY_SECONDS
        # This one has lived long enough.
        harness.exits(harness.server, exit_status(1))
        yield
        assert len(harness.processes("server")) == 4
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_server_that_cannot_be_started_is_tried_again(harness: Harness) -> None:
    def scenario() -> Scenario:
        harness.spawner.full = 1
        harness.exits(harness.server, exit_status(1))
        yield
        assert harness.timeout == RESTART_DELAY_SECONDS
        harness.now += RESTART_DELAY_SECONDS
        yield
        assert len(harness.processes("server")) == 2
        yield from harness.stop()

    assert harness.run(scenario()) == 0
    assert "the server cannot be started: no room for another process; trying again" in harness.log


def test_end_of_the_channel_and_end_of_the_process_are_two_events(harness: Harness) -> None:
    """A server may have closed its channel some time before it can be reaped."""

    def scenario() -> Scenario:
        for process in harness.spawner.processes:
            process.to_watchdog.close()
        yield
        assert len(harness.processes("server")) == 1
        for process in list(harness.spawner.processes):
            harness.exits(process)
        yield
        assert len(harness.processes("server")) == 2
        yield from harness.stop()

    assert harness.run(scenario()) == 0


# -- processes that end ---------------------------------------------------------------------------------------------


def test_preloader_and_worker_that_end(harness: Harness) -> None:
    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        preloader = harness.preloader
        out, err = os.pipe(), os.pipe()
        preloader.send(messages.OutputPipes(5001), [out[0], err[0]])
        for fd in (*out, *err):
            os.close(fd)
        yield
        harness.server.read()
        harness.exits(preloader, KILLED)
        # Its worker is the watchdog's child now. What the application's own processes leave is none of its business.
        harness.reaps(5001, exit_status(2))
        harness.reaps(5002)
        yield
        assert harness.server.read() == [
            messages.ProcessExited(preloader.pid, KILLED), messages.ProcessExited(5001, exit_status(2)),
            messages.ProcessExited(5002, 0),
        ]
        assert harness.killed_groups == [5001]
        yield from harness.stop()

    assert harness.run(scenario()) == 0


def test_nonsense_from_a_preloader_is_logged_and_passed_over(harness: Harness) -> None:
    """The application has the channel in its process, and can write into it."""

    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        preloader, (out, err) = harness.preloader, (os.pipe(), os.pipe())
        preloader.to_watchdog.sock.send(b"junk")
        preloader.send(messages.Quit(), [out[0]])
        preloader.send(messages.OutputPipes(5001), [out[0]])
        os.write(err[1], b"out of paper\n")
        preloader.send(messages.OutputPipes(5002), [out[0], err[0]])
        for fd in (*out, *err):
            os.close(fd)
        harness.server.read()
        harness.server.send(messages.LastLinesRequested(5002))
        yield
        yield
        assert harness.server.read() == [messages.LastLines(5002, ["out of paper"])]
        yield from harness.stop()

    assert harness.run(scenario()) == 0
    for reason in (
        "no message starts like b'junk'", "a watchdog does not handle Quit from a preloader",
        "OutputPipes came with 1 descriptors",
    ):
        assert f"a message is ignored: {reason}" in harness.log


def test_last_message_of_a_preloader_that_ends_in_the_same_turn(harness: Harness) -> None:
    """It comes after the watchdog has read from the channels, and before it reaps."""

    def scenario() -> Scenario:
        yield from ask_for_preloader(harness, 1)
        out, err = os.pipe(), os.pipe()
        os.write(err[1], b"out of paper\n")

        def end() -> None:
            harness.signals.before_take = lambda: None
            harness.preloader.send(messages.OutputPipes(5001), [out[0], err[0]])
            harness.exits(harness.preloader, KILLED)

        harness.signals.before_take = end
        yield
        for fd in (*out, *err):
            os.close(fd)
        harness.server.read()
        harness.server.send(messages.LastLinesRequested(5001))
        yield
        assert harness.server.read() == [messages.LastLines(5001, ["out of paper"])]
        yield from harness.stop()

    assert harness.run(scenario()) == 0
