"""old_logs.py: what goes and what stays in the state directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appsrv.instance.old_logs import KEEP_SECONDS, remove_old_logs
from appsrv.instance.run_directory import InstanceDirectory

LONG_AGO = time.time() - KEEP_SECONDS - 60


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def log_in(state: Path, name: str, when: float) -> Path:
    log = state / name / "server.log"
    log.parent.mkdir(parents=True)
    log.touch()
    os.utime(log, (when, when))
    return log.parent


def test_old_ones_go_and_young_ones_stay(state: Path) -> None:
    old, young = log_in(state, "shop-8000-1", LONG_AGO), log_in(state, "shop-8000-2", time.time())
    (old / "server.log.1").touch()
    os.utime(old / "server.log.1", (LONG_AGO, LONG_AGO))
    assert remove_old_logs(state, []) == [old]
    assert not old.exists()
    assert young.exists()


def test_that_of_a_living_instance_stays(state: Path, tmp_path: Path) -> None:
    base = tmp_path / "run"
    living = InstanceDirectory.create(base, "/srv/shop", "127.0.0.1:8000")
    log = log_in(state, living.name, LONG_AGO)
    assert remove_old_logs(state, [base]) == []
    living.remove()
    assert remove_old_logs(state, [base]) == [log]


def test_what_is_not_ours_stays(state: Path) -> None:
    old = log_in(state, "shop-8000-1", LONG_AGO)
    (old / "notes.txt").touch()
    (state / "run").mkdir()
    assert remove_old_logs(state, []) == []
    assert (old / "notes.txt").exists()
    assert (state / "run").exists()


def test_no_state_directory(state: Path) -> None:
    assert remove_old_logs(state, []) == []
