"""Which preloaders nothing keeps any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from appsrv.server.pool.preloaders import should_end


def preloader(serial: int = 0, **state: bool) -> Any:
    return SimpleNamespace(**{"generation": 1, "serial": serial, "dismissed": False, "failed": False, **state})


def worker(generation: int, serial: int) -> Any:
    return SimpleNamespace(generation=generation, serial=serial)


@pytest.mark.parametrize(
    ("handle", "workers", "ends"),
    [
        (preloader(), [], False),
        (preloader(dismissed=True), [], True),
        (preloader(dismissed=True), [worker(2, 7)], True),
        (preloader(dismissed=True), [worker(2, 7), worker(1, 3)], False),
        (preloader(failed=True), [], True),
        (preloader(5, dismissed=True), [worker(1, 5)], False),
        (preloader(5, dismissed=True), [worker(1, 6)], True),
    ],
)  # fmt: skip
def test_one_that_was_told_to_ends_with_its_last_worker(handle: Any, workers: list[Any], ends: bool) -> None:
    assert should_end(handle, workers, development=False) is ends


def test_one_that_has_failed_waits_for_a_change_in_development() -> None:
    assert not should_end(preloader(failed=True), [], development=True)
    assert should_end(preloader(failed=True, dismissed=True), [], development=True)
