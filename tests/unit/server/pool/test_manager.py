"""manager.py: the life of one application group, with the processes around it played by the test."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from appsrv.ipc import messages
from appsrv.ipc.channel import DescriptorsLost
from appsrv.server.pool.handles import send_signals_through
from support.managed_group import KILLED, ManagedGroup, outcome_of

Make = Callable[..., ManagedGroup]
TERM = int(signal.SIGTERM)
EXIT_3 = 3 << 8


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[ManagedGroup] = []

    def new(**settings: Any) -> ManagedGroup:
        made.append(ManagedGroup(monkeypatch, **settings))
        return made[-1]

    yield new
    for group in made:
        if not group.ended:
            group.end()


def serving_told(group: ManagedGroup) -> list[int]:
    """The generations of which the watchdog was told that they serve."""
    return [msg.generation for msg in group.told if isinstance(msg, messages.Serving)]


# -- boot -------------------------------------------------------------------------------------------------------------


def test_it_boots_when_its_first_worker_is_ready(make: Make) -> None:
    group = make()
    manager = group.manager
    manager.boot(0, 0, have_preloader=False)
    assert (manager.state, manager.loading, manager.booted) == ("booting", True, False)
    preloader = group.preloader()
    assert preloader.read() == ["Attach"]
    preloader.loaded(settings_module="shop.settings", model="threads", concurrency=1)
    assert group.events == ["load ended"]
    assert (manager.loading, manager.booted, manager.spawning) == (False, False, 1)
    worker = preloader.fork()
    assert worker.order.first
    assert not worker.order.become
    assert group.states == ["booting"]
    worker.ready()
    assert group.events == ["load ended", "booted"]
    assert (manager.state, manager.booted, manager.generation, manager.alive) == ("running", True, 1, 1)
    assert group.states == ["idle"]
    assert manager.preloaders.settings_module == "shop.settings"
    worker.serve(group.client())
    group.look()
    assert group.states == ["busy"]


def test_nonsense_from_the_application_s_processes_is_logged_and_passed_over(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader()
    preloader.channel.sock.send(b"junk")
    preloader.say(messages.Quit())
    worker = preloader.loaded().fork()
    worker.channel.sock.send(b"junk")
    worker.channel.send(messages.Quit())
    worker.ready()
    assert group.manager.booted
    texts = [record.getMessage() for record in caplog.records if "a message is ignored" in record.getMessage()]
    assert [text.partition("ignored: ")[2] for text in texts] == [
        "no message starts like b'junk'", "a server does not handle Quit from a preloader",
        "no message starts like b'junk'", "a server does not handle Quit from a worker",
    ]
    assert [text.split()[0] for text in texts] == ["preloader", "preloader", "worker", "worker"]


def test_it_starts_as_many_workers_as_are_kept(make: Make) -> None:
    group = make(min_instances=3)
    group.manager.boot(0, 0, have_preloader=False)
    workers = [worker.forked() for worker in group.preloader().loaded().orders()]
    assert [worker.order.first for worker in workers] == [True, False, False]
    assert len({worker.order.slot for worker in workers}) == 3


def test_without_kept_workers_it_has_booted_when_the_application_is_loaded(make: Make) -> None:
    group = make(min_instances=0)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    assert group.events == ["load ended", "booted"]
    assert (group.manager.state, preloader.orders()) == ("running", [])
    group.request()
    group.look()
    assert group.manager.waiting == 1
    assert preloader.fork().order.first
    assert group.manager.state == "booting"


def test_a_new_server_goes_on_with_the_processes_of_the_one_before(make: Make) -> None:
    group = make()
    group.manager.boot(3, 4, have_preloader=True)
    assert group.asked() == []
    assert group.manager.generation == 3
    assert group.manager.restarts.resisting is not None
    assert "generation 4 could not take over" in group.manager.restarts.resisting.message
    group.restart()
    assert group.asked() == [(5, 0)], "generation 4 was used already"


def test_a_load_that_fails_under_a_new_server_fails_no_boot(make: Make) -> None:
    group = make()
    group.manager.boot(3, 3, have_preloader=False)
    group.preloader(3).failed("broken")
    assert group.events == ["load ended"]
    assert group.request().answers == []


def test_a_load_that_fails_at_first_fails_the_boot(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader()
    preloader.failed("No module named shop", "Traceback: ...")
    assert group.events == ["load ended", "boot failed"]
    assert group.failure is not None
    assert (group.failure.message, group.failure.traceback) == ("No module named shop", "Traceback: ...")
    assert group.manager.state == "broken"
    preloader.exit()
    group.look(after=60)
    assert group.asked() == [], "the same code is not tried again"


def test_three_workers_that_end_before_they_are_ready_fail_the_boot(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    for failures in (1, 2, 3):
        preloader.fork().exit(EXIT_3)
        assert ("boot failed" in group.events) == (failures == 3)
        group.look(after=30)
    assert group.failure is not None
    assert "3 workers in a row ended" in group.failure.message
    assert "exit code 3" in group.failure.message


def test_a_process_that_cannot_be_started_fails_the_boot(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    group.not_started(1)
    assert group.events == ["load ended", "boot failed"]
    assert group.failure is not None
    assert group.failure.message == "no process can be started: no memory"


def test_one_that_cannot_boot_beside_others_answers_503_and_goes_on_trying(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader()
    preloader.failed("broken")
    group.manager.continue_broken()
    client = group.request()
    assert client.answers == [503]
    preloader.exit()
    assert group.asked() == [], "there is a pause first"
    group.look(after=1)
    assert group.manager.booted


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_a_restart_rolls_the_new_generation_in_without_a_gap(make: Make) -> None:
    group = make(min_instances=2)
    group.manager.boot(0, 0, have_preloader=False)
    before = group.preloader().loaded()
    old = [worker.forked().ready() for worker in before.orders()]
    restart = group.restart()
    assert (group.manager.state, group.manager.restarts.running) == ("restarting", True)
    after = group.preloader(2).loaded()
    new = [after.fork().ready()]
    assert [worker.slot.retiring for worker in old] == [True, False], "one at a time"
    assert [worker.signals for worker in old] == [[TERM], []]
    old[0].exit()
    new.append(after.fork())
    assert not restart.ready(), "an old worker still serves"
    new[1].ready()
    assert old[1].slot.retiring
    outcome = outcome_of(restart)
    assert (outcome.ok, outcome.generation) == (True, 2)
    assert serving_told(group) == [2]
    assert before.read()[-1] == "Quit"
    assert (group.manager.generation, group.manager.restarts.succeeded) == (2, 1)
    old[1].exit()
    before.exit()
    assert [preloader.generation for preloader in group.manager.preloaders] == [2]
    assert group.states == ["idle", "idle"]
    assert not group.manager.deaths.recent


def test_the_number_of_workers_replaced_at_a_time_is_what_was_asked_for(make: Make) -> None:
    group = make(min_instances=3)
    group.manager.boot(0, 0, have_preloader=False)
    for worker in group.preloader().loaded().orders():
        worker.forked().ready()
    group.restart(parallel=2)
    assert len(group.preloader(2).loaded().orders()) == 2


def test_a_generation_that_cannot_be_loaded_leaves_the_one_before(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    group = make()
    before, worker = group.serving()
    restart = group.restart()
    failed = group.preloader(2)
    failed.failed("invalid syntax", "Traceback: line 1")
    outcome = outcome_of(restart)
    assert (outcome.ok, outcome.generation, outcome.message) == (False, 1, "invalid syntax")
    assert outcome.traceback == "Traceback: line 1"
    assert (worker.signals, "Quit" in before.read(), group.states) == ([], False, ["idle"])
    assert group.manager.restarts.failed == 1
    resisting = group.manager.restarts.resisting
    assert resisting is not None
    assert resisting.message == "invalid syntax"
    assert group.manager.state == "running"
    assert "cannot be loaded: invalid syntax" in caplog.text
    failed.exit()
    assert group.asked() == [], "the same code is not tried again"
    group.restart()
    assert group.manager.restarts.resisting is None
    assert group.asked() == [(3, 0)]


def test_a_conflict_with_the_code_that_serves_is_explained(make: Make) -> None:
    group = make()
    group.serving()
    restart = group.restart()
    group.preloader(2).failed("[Errno 98] Address already in use")
    assert "--stop-first" in outcome_of(restart).message


@pytest.mark.parametrize("end", ["worker", "unhealthy", "preloader", "not started"])
def test_a_generation_that_cannot_make_a_worker_leaves_the_one_before(make: Make, end: str) -> None:
    group = make(health_path="/health")
    before, worker = group.serving()
    restart = group.restart()
    if end == "not started":
        group.not_started(2)
    else:
        after = group.preloader(2).loaded()
        new = after.fork()
        assert new.order.check, "the old generation could serve on if this one is ill"
        if end == "preloader":
            new.close()
            after.exit(KILLED)
        else:
            if end == "unhealthy":
                new.say(messages.Unhealthy("/health was answered 500"))
            new.exit(EXIT_3)
            assert after.read()[-1] == "Quit"
    outcome = outcome_of(restart)
    reasons = {
        "worker": "exit code 3", "unhealthy": "/health was answered 500", "preloader": "its preloader ended",
        "not started": "no process can be started: no memory",
    }
    assert not outcome.ok
    assert reasons[end] in outcome.message
    assert (worker.signals, "Quit" in before.read(), group.manager.generation) == ([], False, 1)
    group.look(after=60)
    assert (before.orders(), group.asked()) == ([], [])


def test_who_asks_while_a_restart_runs_gets_one_more(make: Make) -> None:
    group = make()
    before, old = group.serving()
    first = group.restart()
    second, third = group.restart(), group.restart()
    after = group.preloader(2).loaded()
    new = after.fork().ready()
    old.exit()
    before.exit()
    assert outcome_of(first).generation == 2
    group.settle()
    last = group.preloader(3).loaded()
    last.fork().ready()
    new.exit()
    assert [outcome_of(each).generation for each in (second, third)] == [3, 3]
    group.settle()
    assert group.asked() == []


def test_a_restart_during_the_first_load_overtakes_it(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    slow = group.preloader()
    restart = group.restart()
    after = group.preloader(2).loaded()
    assert slow.read() == ["Attach"]
    after.fork().ready()
    assert outcome_of(restart).ok
    assert group.manager.generation == 2
    assert slow.read()[-1] == "Quit"
    slow.loaded()
    assert slow.orders() == [], "a generation that was overtaken makes no worker"
    assert group.states == ["idle"]


def test_a_first_load_that_fails_while_a_restart_loads_fails_the_boot_only(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    first = group.preloader()
    restart = group.restart()
    second = group.preloader(2)
    first.failed("broken")
    assert group.events == ["load ended", "boot failed"]
    second.loaded().fork().ready()
    assert outcome_of(restart).ok
    assert group.events[-1] == "booted"
    assert group.manager.failure is None


def test_an_old_worker_that_dies_during_a_restart_is_replaced_by_the_new_generation(make: Make) -> None:
    group = make()
    before, old = group.serving()
    restart = group.restart()
    old.exit(KILLED)
    group.look(after=1)
    # The new generation is not loaded yet, so the old one makes the replacement.
    replacement = before.fork().ready()
    after = group.preloader(2).loaded()
    after.fork().ready()
    assert replacement.slot.retiring
    assert outcome_of(restart).ok


def test_stop_first_ends_the_old_processes_before_the_new_ones_load(make: Make) -> None:
    group = make(stop_timeout=5.0)
    before, old = group.serving()
    restart = group.restart(stop_first=True)
    assert old.slot.retiring
    assert group.asked() == [], "the old processes still live"
    assert serving_told(group) == [2]
    old.exit()
    assert group.asked() == []
    before.exit()
    new = group.preloader(2).loaded().fork()
    assert not restart.ready()
    new.ready()
    assert outcome_of(restart).ok
    assert serving_told(group) == [2]


def test_stop_first_in_vain_is_told_and_requests_get_503(make: Make) -> None:
    group = make()
    before, old = group.serving()
    restart = group.restart(stop_first=True)
    old.exit()
    before.exit()
    group.preloader(2).failed("broken", "Traceback: ...")
    outcome = outcome_of(restart)
    assert (outcome.ok, outcome.stopped, outcome.generation) == (False, True, 2)
    assert group.request().answers == [503]
    assert group.manager.restarts.resisting is None


def test_stop_first_ends_when_the_new_workers_die(make: Make) -> None:
    group = make()
    before, old = group.serving()
    restart = group.restart(stop_first=True)
    old.exit()
    before.exit()
    after = group.preloader(2).loaded()
    for _ in range(3):
        assert not restart.ready()
        after.fork().exit(EXIT_3)
        group.look(after=30)
    outcome = outcome_of(restart)
    assert (outcome.ok, outcome.stopped) == (False, True)
    assert "exit code 3" in outcome.message


def test_stop_first_kills_what_does_not_end(make: Make) -> None:
    group = make(stop_timeout=5.0)
    before, old = group.serving()
    group.restart(stop_first=True)
    group.look(after=8)
    assert (KILLED in old.signals, before.signals) == (True, [KILLED])


def test_stop_first_without_kept_workers_ends_when_the_code_is_loaded(make: Make) -> None:
    group = make(min_instances=0)
    group.manager.boot(0, 0, have_preloader=False)
    before = group.preloader().loaded()
    restart = group.restart(stop_first=True)
    before.exit()
    group.preloader(2).loaded()
    assert outcome_of(restart).ok


def test_stop_first_ends_when_no_process_can_be_started(make: Make) -> None:
    group = make()
    before, old = group.serving()
    restart = group.restart(stop_first=True)
    old.exit()
    before.exit()
    group.not_started(2)
    outcome = outcome_of(restart)
    assert (outcome.ok, outcome.stopped, outcome.message) == (False, True, "no process can be started: no memory")


# -- the ends of workers ----------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_its_request_answered(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    group = make()
    preloader, worker = group.serving()
    answered, begun = group.client(), group.client()
    worker.serve(answered)
    worker.exit(int(signal.SIGSEGV))
    assert answered.answers == [502]
    (death,) = group.manager.deaths.recent
    assert (death.cause, death.requests) == ("killed by SIGSEGV", ["GET /cart"])
    assert death.error_id in caplog.text
    assert "secret" not in caplog.text
    assert messages.LastLinesRequested(worker.pid) in group.told
    assert group.manager.deaths.kinds == {"SIGSEGV": 1}
    assert group.events.count("process ended") == 1
    second = preloader.fork().ready()
    second.serve(begun, begun=True)
    second.exit(KILLED)
    assert (begun.answers, begun.closed) == ([], "reset")


def test_the_last_messages_of_a_worker_are_read_before_its_end_counts(make: Make) -> None:
    group = make()
    _, worker = group.serving()
    worker.channel.send(messages.StartFailed("it ended", ended=True))
    group.manager.process_exited(worker.pid, EXIT_3)
    assert group.manager.failure is not None
    assert group.manager.failure.message == "it ended"


TEXTS = (b"2 x", b"2 things happened\n", b"+ 3 items added today", b"+ 1234567", b"1 of 3 files is missing\n")
"""They begin with the tags of packed messages. One is as long as Ready, and reads like a pid."""


def ignored(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages that were ignored, as the log has them, since the last call."""
    texts = [record.getMessage() for record in caplog.records if "a message is ignored" in record.getMessage()]
    caplog.clear()
    return texts


def test_texts_that_begin_like_a_message_end_neither_the_server_nor_the_record_of_their_worker(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    group = make()
    preloader, worker = group.serving()
    for text in TEXTS:
        worker.channel.sock.send(text)
    group.settle()
    (handle,) = group.manager.workers.values()
    assert (handle.pid, len(ignored(caplog))) == (worker.pid, len(TEXTS))
    group.clock.advance(5)
    # Unread when the preloader reports the end of the worker.
    for text in TEXTS:
        worker.channel.sock.send(text)
    group.manager.process_exited(worker.pid, KILLED)
    assert handle.serial not in group.manager.workers
    assert len(ignored(caplog)) == len(TEXTS)
    assert preloader.fork().ready().signals == []


def test_a_worker_is_ready_once_and_under_no_other_pid_than_its_own(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    (worker,) = preloader.orders()
    # Its messages may be read before its preloader has reported its pid.
    pid = worker.pid = group.next_pid()
    worker.say(messages.Ready(preloader.pid))
    worker.ready()
    (handle,) = group.manager.workers.values()
    assert (handle.pid, group.manager.booted) == (0, False)
    preloader.say(messages.Spawned(os.getpid(), worker.serial, pid))
    assert (handle.pid, group.manager.booted) == (pid, True)
    worker.say(messages.Ready(preloader.pid))
    worker.ready()
    assert handle.pid == pid
    assert len(ignored(caplog)) == 3
    group.manager.workers.kill(handle.serial, "asked for")
    assert (worker.signals, preloader.signals) == ([KILLED], [])


def test_a_text_whose_descriptors_are_lost_is_ignored(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    group = make()
    group.serving()
    (handle,) = group.manager.workers.values()
    lost = iter([DescriptorsLost(b"2 things happened\n"), DescriptorsLost(b"junk"), BlockingIOError()])

    def receive(_flags: int = 0) -> object:
        raise next(lost)

    monkeypatch.setattr(handle.outbox.channel, "receive", receive)
    group.manager.workers.receive(handle)
    assert len(ignored(caplog)) == 2
    assert next(lost, None) is None


def test_connections_that_a_dead_worker_had_taken_are_looked_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make()
    _, worker = group.serving()
    looked: list[bool] = []
    monkeypatch.setattr(group.backend, "recover_lost", lambda: looked.append(True))
    worker.exit(KILLED)
    assert looked == [True]


def test_a_worker_that_was_told_to_end_by_another_process_is_no_death(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    group = make()
    preloader, worker = group.serving()
    group.clock.advance(5)
    worker.exit()
    assert "got a signal to end that appsrv did not send" in caplog.text
    assert not group.manager.deaths.recent
    preloader.fork()


def test_workers_that_die_young_in_a_row_close_the_application_until_one_lives(make: Make) -> None:
    group = make()
    preloader, worker = group.serving()
    for _ in range(2):
        worker.exit(EXIT_3)
        assert group.manager.failure is None
        group.look(after=30)
        worker = preloader.fork().ready()
    worker.exit(EXIT_3)
    assert group.manager.state == "broken"
    assert "boot failed" not in group.events
    assert group.request().answers == [503]
    assert preloader.orders() == [], "there is a pause after each failure"
    group.look(after=30)
    preloader.fork().ready()
    assert group.manager.state == "running"
    assert group.request().answers == []


def test_a_worker_is_asked_for_again_after_a_fork_that_failed(make: Make) -> None:
    group = make()
    preloader, worker = group.serving()
    worker.exit(KILLED)
    group.look(after=30)
    (order,) = preloader.orders()
    preloader.say(messages.Spawned(os.getpid(), order.serial, -1, "Resource temporarily unavailable"))
    order.close()
    assert group.states == []
    group.look(after=30)
    preloader.fork().ready()


def test_a_process_that_does_not_serve_connections_fails_the_boot(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    worker = group.preloader().loaded().fork()
    worker.say(messages.StartFailed("it takes no connections on $PORT", ended=False))
    assert group.events[-1] == "boot failed"
    assert group.failure is not None
    assert (group.failure.message, group.failure.pid) == ("it takes no connections on $PORT", worker.pid)


# -- the ends of preloaders -------------------------------------------------------------------------------------------


def test_a_preloader_that_dies_is_replaced_and_its_workers_serve_on(make: Make) -> None:
    group = make(min_instances=2)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    served, waiting = preloader.orders()
    served.forked().ready()
    waiting.close()
    preloader.exit(KILLED)
    assert group.states == ["idle"], "the one that had no process yet is forgotten"
    assert served.signals == []
    assert group.asked() == [], "there is a pause first"
    group.look(after=1)
    again = group.preloader().loaded()
    assert not again.fork().order.first
    # The watchdog reaps a worker whose preloader has gone.
    served.close()
    group.manager.process_exited(served.pid, KILLED)
    assert group.states == ["booting", "booting"]
    assert group.manager.deaths.recent[-1].pid == served.pid


def test_the_traceback_of_the_same_code_is_logged_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    group = make()
    preloader, _ = group.serving()
    preloader.exit(KILLED)
    for pause in (1, 2):
        group.look(after=pause)
        again = group.preloader()
        again.failed("invalid syntax", "Traceback: line 1")
        again.exit()
    assert caplog.text.count("cannot be loaded") == 2
    assert caplog.text.count("Traceback: line 1") == 1


def test_preloaders_that_die_in_a_row_close_the_application(make: Make) -> None:
    group = make()
    preloader, worker = group.serving()
    worker.close()
    group.clock.advance(5)
    group.manager.process_exited(worker.pid, KILLED)
    for failures in (1, 2, 3):
        preloader.exit(KILLED)
        assert group.backend.fallback.active == (failures == 3)
        assert group.manager.preloaders.failures == failures
        if failures < 3:
            group.look(after=1)
            preloader = group.preloader().loaded()
    assert group.manager.failure is not None
    assert "3 preloaders in a row ended" in group.manager.failure.message


def test_no_preloader_is_asked_for_again_once_a_restart_has_come(make: Make) -> None:
    group = make()
    preloader, worker = group.serving()
    preloader.exit(KILLED)
    restart = group.restart()
    after = group.preloader(2).loaded()
    after.fork().ready()
    worker.close()
    group.manager.process_exited(worker.pid, 0)
    assert outcome_of(restart).ok
    group.look(after=1)
    assert group.asked() == []


# -- time limits ------------------------------------------------------------------------------------------------------


def test_a_worker_that_does_not_become_ready_or_does_not_end_is_killed(make: Make) -> None:
    group = make(start_timeout=20.0, stop_timeout=5.0)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    slow = preloader.fork()
    group.look(after=19)
    assert slow.signals == []
    group.look(after=2)
    assert slow.signals == [KILLED]
    slow.exit(KILLED)
    assert "start_timeout of 20 s is over" in group.manager.deaths.recent[-1].cause
    group.look(after=30)
    hangs = preloader.fork().ready()
    assert group.manager.detach(hangs.pid) == hangs.serial
    successor = preloader.fork().ready()
    assert hangs.signals == [TERM]
    group.look(after=6)
    assert hangs.signals == [TERM, KILLED]
    assert successor.signals == []
    assert group.manager.detach(1) is None


def test_a_preloader_that_does_not_load_in_time_is_killed(make: Make) -> None:
    group = make(start_timeout=20.0)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader()
    group.look(after=19)
    assert preloader.signals == []
    group.look(after=2)
    assert preloader.signals == [KILLED]
    assert group.failure is not None
    assert "start_timeout (20 s)" in group.failure.message


def test_a_preloader_that_does_not_end_with_its_last_worker_is_killed(make: Make) -> None:
    group = make(stop_timeout=5.0)
    before, old = group.serving()
    group.restart()
    group.preloader(2).loaded().fork().ready()
    group.look(after=100)
    assert KILLED not in before.signals, "it has a worker"
    old.exit(KILLED)
    group.look()
    group.look(after=4)
    assert before.signals == []
    group.look(after=2)
    assert before.signals == [KILLED]


def test_a_request_that_takes_too_long_is_answered_and_its_worker_replaced(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make(slow_request_time=3.0, max_request_time=10.0)
    preloader, worker = group.serving()
    client = group.client()
    worker.serve(client)
    group.look(after=4)
    group.settle()
    assert group.stacks == [worker.pid]
    assert "longer than slow_request_time (3 s)" in caplog.text
    assert "views.py, line 3, in cart" in caplog.text
    stopped = SimpleNamespace(status=lambda: psutil.STATUS_STOPPED)
    monkeypatch.setattr("psutil.Process", lambda _pid: stopped)
    group.look(after=7)
    group.until(lambda: KILLED in worker.signals, "the worker is killed")
    assert "longer than max_request_time (10 s)" in caplog.text
    assert client.answers == [504]
    worker.exit(KILLED)
    assert client.answers == [504], "one answer is enough"
    preloader.fork()


def test_a_client_that_has_gone_is_marked_and_named_when_its_worker_has_to_end(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    group = make()
    _, worker = group.serving()
    worker.serve(group.client(gone=True))
    group.look(after=1)
    assert worker.slot.cell(0).client() == "gone"
    group.manager.resize(0)
    group.manager.detach(worker.pid)
    group.manager.close()
    assert "still serves GET /cart, whose client has disconnected" in caplog.text


def test_a_request_that_waits_too_long_for_a_worker_is_answered(make: Make) -> None:
    group = make(max_request_queue_time=5.0)
    _, worker = group.serving()
    worker.serve(group.client())
    client = group.request()
    group.look(after=4)
    assert client.answers == []
    group.look(after=2)
    assert (client.answers, group.manager.queue.timed_out) == ([504], 1)


# -- idle applications ------------------------------------------------------------------------------------------------


def test_an_idle_application_is_unloaded_and_loaded_for_the_next_request(make: Make) -> None:
    group = make(min_instances=0, max_preloader_idle_time=60.0, pool_idle_time=10.0)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    group.look()
    group.look(after=59)
    assert "Quit" not in preloader.read()
    group.look(after=2)
    assert preloader.read()[-1] == "Quit"
    preloader.exit()
    assert group.manager.state == "running"
    group.look(after=60)
    assert group.asked() == []
    client = group.request()
    group.look()
    again = group.preloader().loaded()
    group.look()
    again.fork().ready()
    assert client.answers == []
    assert group.events.count("booted") == 1


def test_an_application_that_is_still_loaded_is_not_unloaded(make: Make) -> None:
    group = make(min_instances=0, max_preloader_idle_time=60.0)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader()
    group.look()
    group.look(after=61)
    assert preloader.read() == ["Attach"]


def test_one_of_many_applications_is_not_loaded_before_the_first_request(make: Make) -> None:
    group = make(routed=True, min_instances=0, max_preloader_idle_time=60.0)
    group.manager.boot(0, 0, have_preloader=False)
    assert group.events == ["booted"]
    assert (group.manager.state, group.manager.loading, group.asked()) == ("running", False, [])
    group.request()
    group.look()
    assert group.asked() == [(1, 0)]


def test_a_restart_that_fails_leaves_an_unloaded_application_unloaded(make: Make) -> None:
    group = make(routed=True, min_instances=0, max_preloader_idle_time=60.0)
    group.manager.boot(0, 0, have_preloader=False)
    restart = group.restart()
    failed = group.preloader(2)
    failed.failed("broken")
    failed.exit()
    assert not outcome_of(restart).ok
    group.request()
    group.look()
    assert group.asked() == [(1, 0)], "the old code is loaded for the next request"


# -- development ------------------------------------------------------------------------------------------------------


def test_a_change_takes_everything_from_the_old_code_at_once(make: Make) -> None:
    group = make(development=True)
    before, old = group.serving()
    group.clock.advance(5)
    old.say(messages.CodeChanged(["/apps/shop/views.py"]))
    assert old.slot.retiring
    assert group.asked() == [], "what the old processes hold is let go of first"
    assert group.manager.generation == 2
    client = group.request()
    old.say(messages.CodeChanged(["/apps/shop/views.py"]))
    assert group.manager.generation == 2, "a worker that retires does not know what its successor has loaded"
    old.exit()
    before.exit()
    new = group.preloader(2).loaded().fork().ready()
    assert (new.signals, client.answers) == ([], [])


def test_code_that_cannot_be_loaded_is_shown_and_waits_for_the_next_change(make: Make) -> None:
    group = make(development=True)
    before, old = group.serving()
    group.clock.advance(5)
    group.manager.code_changed(["/apps/shop/views.py"])
    old.exit()
    before.exit()
    failed = group.preloader(2)
    failed.failed("invalid syntax", "Traceback: line 1")
    assert group.request().answers == [500]
    assert group.manager.state == "broken"
    group.look(after=100)
    assert failed.signals == [], "it watches the files"
    group.clock.advance(5)
    failed.say(messages.CodeChanged(["/apps/shop/views.py"]))
    assert failed.signals == [TERM]
    assert group.request().answers == [], "requests wait for the new code"
    failed.exit(TERM)
    assert group.asked() == [(3, 0)]


def test_a_traceback_is_at_the_level_of_notes_where_the_command_has_printed_it(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    group = make(development=True)
    group.manager.boot(0, 0, have_preloader=False)
    group.preloader().failed("invalid syntax", "Traceback: line 1")
    assert "Traceback: line 1" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_the_death_of_a_worker_at_the_first_start_is_left_to_the_command(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    group = make(development=True)
    group.manager.boot(0, 0, have_preloader=False)
    group.preloader().loaded().fork().exit(EXIT_3)
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_code_that_could_not_be_loaded_beside_the_old_processes_is_loaded_again(make: Make) -> None:
    group = make(development=True)
    before, old = group.serving()
    group.clock.advance(5)
    group.manager.code_changed(["/apps/shop/views.py"])
    before.exit()
    group.look(after=2)
    failed = group.preloader(2)
    failed.failed("[Errno 98] Address already in use", "Traceback: ...")
    assert group.asked() == []
    old.close()
    group.manager.process_exited(old.pid, 0)
    failed.exit(TERM)
    assert group.asked() == [(3, 0)]


def test_after_the_stop_nothing_is_loaded(make: Make) -> None:
    group = make(development=True)
    before, old = group.serving()
    group.clock.advance(5)
    group.manager.code_changed(["/apps/shop/views.py"])
    group.manager.close()
    group.manager.code_changed(["/apps/shop/models.py"])
    old.exit()
    before.exit()
    group.look(after=60)
    assert group.asked() == []


def test_a_reload_that_waits_in_a_loop_is_forgotten_at_the_stop(make: Make) -> None:
    group = make(development=True)
    group.manager.boot(0, 0, have_preloader=False)
    for generation in (1, 2, 3, 4):
        loading = group.preloader(generation)
        loading.failed("broken", "Traceback: ...")
        group.manager.code_changed(["/apps/shop/made.py"])
        loading.exit(TERM)
    assert group.asked() == [], "the reload waits"
    group.manager.close()
    group.look(after=60)
    assert group.manager.generation == 4


def test_a_change_makes_a_restart_pointless(make: Make) -> None:
    group = make(development=True)
    group.serving()
    restart = group.restart()
    importing = group.preloader(2)
    group.clock.advance(5)
    group.manager.code_changed(["/apps/shop/views.py"])
    outcome = outcome_of(restart)
    assert (outcome.ok, outcome.superseded, group.manager.restarts.failed) == (False, True, 0)
    assert importing.signals == [TERM], "it does not finish an import that is not needed"


def test_files_that_need_no_new_code_are_passed_on(make: Make) -> None:
    group = make(development=True, min_instances=2)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    first, second = (worker.forked().ready() for worker in preloader.orders())
    first.say(messages.FilesChanged(["/apps/shop/a.html"]))
    assert preloader.read()[-1] == "FilesChanged"
    assert not first.changes, "it watches the files itself"
    msg, _ = second.changes[0].receive(socket.MSG_DONTWAIT)
    assert msg == messages.FilesChanged(["/apps/shop/a.html"])


def test_messages_that_do_not_fit_into_a_channel_are_sent_later(make: Make) -> None:
    group = make(development=True, min_instances=2)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    first, second = (worker.forked().ready() for worker in preloader.orders())
    many = 12
    for _ in range(many):
        first.say(messages.FilesChanged(["x" * 300_000]))
    changes = second.changes[0]
    changes.sock.setblocking(False)
    seen = {"worker": 0, "preloader": 0}
    for _ in range(many):
        seen["worker"] += len(list(changes.waiting()))
        seen["preloader"] = preloader.read().count("FilesChanged")
        group.look()
    assert seen == {"worker": many, "preloader": many}


# -- workers that are spawned directly --------------------------------------------------------------------------------


def test_a_worker_that_is_spawned_directly_is_a_process_of_its_own(make: Make) -> None:
    group = make(spawn_method="direct")
    group.manager.boot(0, 0, have_preloader=False)
    process = group.preloader(1, 1)
    (worker,) = process.orders()
    assert worker.order.become
    worker.pid = process.pid
    process.loaded()
    assert group.events == []
    worker.ready()
    assert group.events == ["load ended", "booted"]
    restart = group.restart()
    second = group.preloader(2, 2)
    (new,) = second.orders()
    second.loaded()
    new.pid = second.pid
    new.ready()
    assert worker.slot.retiring
    assert outcome_of(restart).ok
    worker.close()
    process.exit()
    assert group.states == ["idle"]


def test_code_that_cannot_be_loaded_directly_waits_for_the_next_change(make: Make) -> None:
    group = make(spawn_method="direct", development=True)
    group.manager.boot(0, 0, have_preloader=False)
    process = group.preloader(1, 1)
    process.orders()[0].close()
    process.failed("invalid syntax", "Traceback: line 1")
    group.look(after=60)
    assert group.asked() == [], "the process that failed watches the files"


def test_one_that_retires_before_it_has_a_process_is_told_when_it_has(make: Make) -> None:
    group = make(spawn_method="direct", min_instances=0)
    group.manager.boot(0, 0, have_preloader=False)
    group.request()
    group.look()
    group.manager.close()
    process = group.preloader(1, 1)
    assert process.signals == [TERM]
    (worker,) = process.orders()
    worker.close()
    process.exit(TERM)
    assert group.manager.has_ended


# -- stop -------------------------------------------------------------------------------------------------------------


def test_when_it_stops_all_end_and_who_waits_is_told(make: Make) -> None:
    group = make(min_instances=2)
    group.manager.boot(0, 0, have_preloader=False)
    preloader = group.preloader().loaded()
    workers = [worker.forked().ready() for worker in preloader.orders()]
    restart = group.restart()
    importing = group.preloader(2)
    group.manager.close()
    assert [worker.signals for worker in workers] == [[TERM], [TERM]]
    outcome = outcome_of(restart)
    assert (outcome.ok, outcome.message) == (False, "the server stops")
    assert preloader.read()[-1] == importing.read()[-1] == "Quit"
    assert outcome_of(group.restart()).message == "the server stops", "and who asks later"
    workers[0].exit()
    group.manager.kill_all("it did not end in the time that a stop has")
    assert workers[1].signals == [TERM, KILLED]
    workers[1].exit(KILLED)
    preloader.exit()
    assert not group.manager.has_ended
    importing.exit()
    assert group.asked() == []
    assert group.manager.has_ended


def test_a_preloader_that_comes_after_the_stop_is_dismissed(make: Make) -> None:
    group = make()
    group.manager.boot(0, 0, have_preloader=False)
    group.manager.close()
    assert not group.manager.has_ended, "one is still to come"
    late = group.preloader()
    assert late.read() == ["Attach", "Quit"]
    late.exit()
    assert group.manager.has_ended


def test_the_watchdog_that_stops_starts_no_process_and_that_is_no_failure(make: Make) -> None:
    group = make(spawn_method="direct")
    group.manager.boot(0, 0, have_preloader=False)
    group.not_started(1, 1, reason="")
    assert group.manager.failure is None
    assert group.states == []


# -- what this process may not signal ---------------------------------------------------------------------------------


def test_processes_of_another_user_are_signalled_by_the_watchdog(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appsrv.server.pool.handles._privileged_senders", [])
    group = make()
    preloader, worker = group.serving()
    asked: list[tuple[int, int]] = []
    send_signals_through(lambda pid, number: asked.append((pid, number)))
    group.forbidden = {worker.pid, preloader.pid}
    group.manager.kill_all("a test")
    assert asked == [(worker.pid, KILLED)]
    assert group.states == ["idle"]


def test_a_worker_of_another_user_that_has_closed_its_channel_does_not_stop_the_looks(make: Make) -> None:
    group = make(start_timeout=20.0)
    preloader, worker = group.serving()
    group.forbidden = {worker.pid}
    worker.close()
    group.settle()
    group.look(after=2)
    group.look(after=2)
    assert group.states == ["idle"], "it may still end by itself"
    group.restart()
    importing = group.preloader(2)
    group.look(after=21)
    assert importing.signals == [KILLED], "the limits after it are looked at"
    group.dead, group.forbidden = {worker.pid}, set()
    group.look(after=2)
    group.look(after=2)
    assert group.manager.deaths.recent[-1].cause == "exit status unknown"
    preloader.fork()
    assert group.states == ["booting"]


def test_a_group_that_is_discarded_after_a_death_looks_for_lost_connections_no_more(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    group = make()
    group.serving()
    group.backend.recover_lost()
    group.end()
    group.settle()
    assert capsys.readouterr().err == ""


def test_a_message_of_another_direction_is_logged_and_the_process_goes_on(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    group = make()
    preloader, worker = group.serving()
    preloader.say(messages.Quit())
    assert f"preloader {preloader.pid} of {group.manager.name}" in caplog.text
    caplog.clear()
    worker.say(messages.Quit())
    assert "Quit" in caplog.text
    group.clock.advance(5)
    worker.exit(KILLED)
    preloader.fork()


# -- the numbers ------------------------------------------------------------------------------------------------------


def test_more_or_fewer_workers_are_kept_when_asked(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    group = make(min_instances=1)
    preloader, worker = group.serving()
    group.manager.resize(+1)
    assert group.manager.min_instances == 2
    second = preloader.fork().ready()
    group.clock.advance(1)
    group.manager.resize(-1)
    assert "keeps at least 1 workers (2 before)" in caplog.text
    assert [worker.signals, second.signals] == [[TERM], []]


def test_another_group_may_take_the_place_of_an_idle_worker(make: Make) -> None:
    group = make(min_instances=1)
    preloader, worker = group.serving()
    load = group.manager.group_load()
    assert (load.alive, load.min_instances, load.waiting, list(load.idle), load.busy) == (1, 1, 0, [worker.serial], ())
    group.room = 0
    group.manager.evict(worker.serial, "/apps/blog")
    assert worker.signals == [TERM]
    worker.exit()
    group.request()
    group.look()
    assert preloader.orders() == []
    assert group.looks[-1], "it waits for a place"
    group.room = 1
    group.look()
    preloader.fork()


def test_a_worker_that_has_served_its_requests_is_replaced(make: Make) -> None:
    group = make(max_requests=1)
    preloader, worker = group.serving()
    worker.serve(group.client())
    worker.served()
    group.look()
    preloader.fork().ready()
    assert worker.signals == [TERM]


def test_requests_that_a_dead_worker_had_taken_do_not_count_as_waiting(make: Make) -> None:
    group = make()
    _, worker = group.serving()
    for _ in range(2):
        group.request()
    worker.slot.count_taken()
    assert group.manager.count_waiting() == 1
    worker.exit(KILLED)
    assert group.manager.count_waiting() == 1


def test_the_queue_refuses_what_is_too_much(make: Make) -> None:
    group = make(max_request_queue_size=1, min_instances=1, max_pool_size=1)
    _, worker = group.serving()
    worker.serve(group.client())
    group.look()
    waiting = [group.request(), group.request()]
    assert [client.answers for client in waiting] == [[], [503]]
    assert group.manager.queue.refused == 1
