"""The workers of a preloader: which have ended, and what a fork that fails leaves behind."""

from __future__ import annotations

import os

import pytest

from appsrv.preloader import forked_workers
from appsrv.preloader.forked_workers import ForkedWorker, ForkedWorkers


def test_each_is_reaped_once_and_by_its_pid() -> None:
    pids, ended = iter((5001, 5002, 0)), {5002: 9}
    workers = ForkedWorkers(lambda: (next(pids), []), lambda pid, _: (pid, ended[pid]) if pid in ended else (0, 0))
    assert not workers
    for serial in (1, 2):
        workers.fork(serial=serial, server=900)
    assert list(workers.reap()) == [(ForkedWorker(5002, 2, 900), 9)]
    assert list(workers.reap()) == []
    # In the child there is none to record.
    assert workers.fork(serial=3, server=900) == (0, [])
    assert workers
    ended[5001] = 0
    assert list(workers.reap()) == [(ForkedWorker(5001, 1, 900), 0)]
    assert not workers


def test_a_fork_without_room_closes_its_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    pipe = os.pipe

    def two_ends() -> tuple[int, int]:
        opened.extend(pipe())
        return opened[-2], opened[-1]

    def no_room() -> int:
        raise OSError("no room for another process")

    monkeypatch.setattr(os, "pipe", two_ends)
    monkeypatch.setattr(forked_workers, "_fork", no_room)
    with pytest.raises(OSError, match="no room"):
        forked_workers.fork_with_pipes()
    assert len(opened) == 4
    for fd in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
