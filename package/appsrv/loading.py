"""The garbage collector while an application is loaded: it looks seldom, for nearly all that is made then stays.

A tenth to a fifth of the time of loading a Django project went into looking at modules, classes and functions again and
again. Knows the collector, not what is loaded.
"""

from __future__ import annotations

import gc

SELDOM = (50_000, 20, 100)
"""Thresholds (gc.set_threshold): an application that makes real garbage while it loads still gets rid of it."""

_as_usual: list[tuple[int, int, int]] = []


def collect_seldom() -> None:
    """From now on, until `collect_as_usual`. A second call changes nothing."""
    if not _as_usual:
        _as_usual.append(gc.get_threshold())
        gc.set_threshold(*SELDOM)


def collect_as_usual() -> None:
    """The application is loaded, or is not going to be; thresholds that it has set itself stay."""
    if _as_usual:
        before = _as_usual.pop()
        if gc.get_threshold() == SELDOM:
            gc.set_threshold(*before)
