"""Reloads that follow each other in a loop."""

from __future__ import annotations

from typing import Any

import pytest

from appsrv.server.pool.reload_brake import AT_START_SECONDS, LONGEST_PAUSE_SECONDS, ReloadBrake, pause_before


class Timer:
    def __init__(self) -> None:
        self.killed = False

    def kill(self, *, block: bool) -> None:
        self.killed = True


class Reloaded:
    """A brake with a clock of its own; `waits` are the reloads that have to wait: (seconds, function, arguments)."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reloads: list[list[str]] = []
        self.waits: list[tuple[Any, ...]] = []
        self.timers: list[Timer] = []
        self.brake = ReloadBrake("app", self.reloads.append, later=self.later, now=lambda: self.now)

    def later(self, *call: Any) -> Timer:
        self.waits.append(call)
        self.timers.append(Timer())
        return self.timers[-1]

    def change(self, *paths: str, after: float = 0.1) -> None:
        self.brake.loaded()
        self.now += after
        self.brake.changed(list(paths))


def test_three_reloads_in_a_row_are_let_pass(caplog: pytest.LogCaptureFixture) -> None:
    reloaded = Reloaded()
    for _ in range(3):
        reloaded.change("stamp.py")
    assert (len(reloaded.reloads), caplog.messages) == (3, [])
    reloaded.change("stamp.py")
    assert (len(reloaded.reloads), reloaded.waits[0][0]) == (3, pause_before(4))
    assert "stamp.py changes at each start of app, 4 times in a row" in caplog.messages[0]
    reloaded.change("stamp.py")
    assert len(reloaded.waits) == 1, "one reload is enough"
    _, function, *arguments = reloaded.waits[0]
    function(*arguments)
    assert len(reloaded.reloads) == 4, "what was saved is loaded, if late"
    reloaded.change("stamp.py")
    assert reloaded.waits[1][0] == pause_before(5) > pause_before(4)


def test_saves_of_other_files_or_at_other_times_are_loaded_at_once() -> None:
    reloaded = Reloaded()
    for _ in range(9):
        reloaded.change("views.py", after=AT_START_SECONDS + 1)
    for number in range(9):
        reloaded.change(f"{number}.py")
    assert (len(reloaded.reloads), reloaded.waits) == (18, [])


def test_a_save_of_another_file_takes_the_place_of_one_that_waits() -> None:
    reloaded = Reloaded()
    for _ in range(4):
        reloaded.change("stamp.py")
    reloaded.change("views.py")
    assert reloaded.timers[0].killed
    assert reloaded.reloads[-1] == ["views.py"]


def test_pauses_grow_to_a_limit() -> None:
    assert [pause_before(number) for number in (1, 3, 4, 5)] == [0.0, 0.0, 2.0, 4.0]
    assert pause_before(99) == LONGEST_PAUSE_SECONDS
