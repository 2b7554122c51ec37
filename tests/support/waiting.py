"""Waiting without fixed sleeps: ask again until it holds, and say what was seen when it never did."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE = 0.01


def wait_for(question: Callable[[], T | None], what: str, seconds: float = 15.0) -> T:
    """First true answer of `question`; after `seconds` an AssertionError that names what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last seen: {answer!r}")
        time.sleep(PAUSE)
