"""Waiting without fixed sleeps: ask again until it holds, and say what was seen when it never did."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Between two questions: short at first, and longer while nothing happens, since each may be a request to the server.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.005, 0.03, 1.2


def wait_for(question: Callable[[], T | None], what: str, seconds: float = 15.0) -> T:
    """First true answer of `question`; after `seconds` an AssertionError that names what was waited for."""
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last seen: {answer!r}")
        time.sleep(pause)
        pause = min(pause * GROWTH, LONGEST_PAUSE)
