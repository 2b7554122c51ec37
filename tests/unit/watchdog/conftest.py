"""A watchdog whose processes are played by the test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fake_processes import Harness


@pytest.fixture
def harness() -> Iterator[Harness]:
    """Its directory has a short path, since unix sockets are made below it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Harness(Path(directory))
