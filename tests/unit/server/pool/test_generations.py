"""The numbers of generations, and which processes are older than one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from appsrv.server.pool.generations import Generations


def process(generation: int, pid: int) -> Any:
    return SimpleNamespace(generation=generation, pid=pid)


def test_a_number_is_used_once() -> None:
    generations = Generations("shop", {}, [])
    generations.continue_after(4)
    assert [generations.take(), generations.take()] == [5, 6]


def test_only_processes_of_older_generations_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, _number: killed.append(pid))
    generations = Generations("shop", {7: process(1, 11), 8: process(2, 12)}, [process(1, 13), process(2, 14)])
    assert generations.has_older(2)
    assert not generations.has_older(1)
    generations.kill_older(2)
    assert killed == [11, 13]
