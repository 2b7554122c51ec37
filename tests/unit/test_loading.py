"""How often the garbage collector looks while an application is loaded, and afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from appsrv import loading


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 11, 12)
    yield
    loading.collect_as_usual()
    gc.set_threshold(*before)


def test_seldom_until_it_is_loaded() -> None:
    loading.collect_seldom()
    loading.collect_seldom()
    assert gc.get_threshold() == loading.SELDOM
    loading.collect_as_usual()
    assert gc.get_threshold() == (700, 11, 12)
    loading.collect_as_usual()
    assert gc.get_threshold() == (700, 11, 12)


def test_what_the_application_has_set_stays() -> None:
    loading.collect_seldom()
    gc.set_threshold(1000, 5, 5)
    loading.collect_as_usual()
    assert gc.get_threshold() == (1000, 5, 5)
