"""restart_file.py: what counts as an order to restart."""

from __future__ import annotations

import os
from pathlib import Path

from appsrv.server.restart_file import RestartFile


def test_touched_created_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tmp" / "restart.txt"
    file = RestartFile(str(path))
    assert not file.changed()
    path.parent.mkdir()
    path.touch()
    assert file.changed(), "created"
    assert not file.changed()
    os.utime(path, ns=(1, 1))
    assert file.changed(), "touched, be it to an earlier time"
    other = tmp_path / "other"
    other.touch()
    os.utime(other, ns=(1, 1))
    other.replace(path)
    assert file.changed(), "replaced by one of the same time"
    path.unlink()
    assert not file.changed()


def test_one_that_was_there_before_is_no_order(tmp_path: Path) -> None:
    path = tmp_path / "restart.txt"
    path.touch()
    assert not RestartFile(str(path)).changed()
