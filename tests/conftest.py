"""What every test has: nothing of the caller's own settings, and a clean home for run directories."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent

# How quick the machine is at the moment is no property of what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", type=float, default=20.0, metavar="SECONDS", help="how long the soak test goes on")
    parser.addoption("--soak-seed", type=int, default=0, metavar="SEED", help="the events of an earlier soak again")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "unit: pure, without a process; all of tests/unit that is not marked otherwise")
    config.addinivalue_line("markers", "process: starts processes; all of tests/integration")
    config.addinivalue_line("markers", "slow: takes more than 5 seconds on a quiet machine")


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.is_relative_to(TESTS / "integration"):
        item.add_marker("process")
    elif not item.get_closest_marker("process"):
        item.add_marker("unit")


def pytest_collection_finish() -> None:
    """No garbage collection needs to look through what collecting has made: it stays until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests must not configure the server under test."""
    for name in list(os.environ):
        if name.startswith(("APPSRV_", "FLASK_", "DJANGO_")):
            monkeypatch.delenv(name)
    for name in ("PORT", "WEB_CONCURRENCY", "NO_COLOR", "FORCE_COLOR", "RUN_MAIN", "WERKZEUG_RUN_MAIN"):
        monkeypatch.delenv(name, raising=False)
