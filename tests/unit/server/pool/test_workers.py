"""workers.py: the handles of workers whose processes end in odd ways."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from appsrv.ipc.scoreboard import Scoreboard
from appsrv.server.pool.handles import WorkerHandle
from appsrv.server.pool.pool import SpawnWorker
from appsrv.server.pool.workers import EXIT_REPORT_SECONDS, NoRoom, WorkerEvents, Workers


def unexpected(*_: object) -> None:
    """No worker sends a message here."""
    raise AssertionError("a message of a worker")


class Quiet:
    """A front end that has no connections."""

    def worker_gone(self, serial: int, served: object, error_id: str) -> None:
        """Nothing to answer."""


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(
        "shop", board=Scoreboard.create(2, 1), backend=Quiet(), now=time.monotonic,  # type: ignore[arg-type]
        events=WorkerEvents(unexpected, unexpected, unexpected, unexpected, unexpected, process_ended=lambda: None),
    )
    yield made
    for handle in list(made.values()):
        made.forget(handle)


def hung_up(workers: Workers, pid: int) -> WorkerHandle:
    """A worker whose end of the channel is closed."""
    handle = workers.make(SpawnWorker(1, 1, first=True))
    handle.pid = pid
    workers.close_worker_ends(handle)
    workers.receive(handle)
    return handle


def ended_pid() -> int:
    """The pid of a process that has been reaped."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


@pytest.mark.process
def test_one_that_was_reaped_by_a_preloader_that_died_before_it_could_say_so(workers: Workers) -> None:
    handle = hung_up(workers, ended_pid())
    assert workers.lost(handle.hung_up + EXIT_REPORT_SECONDS / 2) == [], "the news may be on its way"
    seen_late = handle.hung_up + EXIT_REPORT_SECONDS * 2
    assert workers.lost(seen_late) == [], "or here, where the server has stood still so long"
    assert workers.lost(handle.hung_up + EXIT_REPORT_SECONDS * 2) == [handle]


def test_one_that_was_never_forked(workers: Workers) -> None:
    handle = hung_up(workers, 0)
    workers.lost(handle.hung_up + EXIT_REPORT_SECONDS * 2)
    assert workers.lost(handle.hung_up + EXIT_REPORT_SECONDS * 2) == [handle]


def test_one_that_lives_is_not_lost(workers: Workers) -> None:
    handle = hung_up(workers, os.getpid())
    assert workers.lost(handle.hung_up + EXIT_REPORT_SECONDS * 2) == []


def test_one_that_lives_as_another_user_is_not_lost(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(_pid: int, _number: int) -> None:
        raise PermissionError

    handle = hung_up(workers, os.getpid())
    monkeypatch.setattr(os, "kill", kill)
    for _ in range(2):
        assert workers.lost(handle.hung_up + EXIT_REPORT_SECONDS * 2) == []


def test_one_that_has_not_hung_up_is_not_lost(workers: Workers) -> None:
    handle = workers.make(SpawnWorker(1, 1, first=True))
    workers.receive(handle)
    assert workers.lost(handle.since + 1000) == []


def test_there_is_no_room_for_more_than_there_are_slots(workers: Workers) -> None:
    for serial in (1, 2):
        workers.make(SpawnWorker(serial, 1, first=False))
    with pytest.raises(NoRoom):
        workers.make(SpawnWorker(3, 1, first=False))
