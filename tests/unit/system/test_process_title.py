"""Titles of processes, and the directory of a command: names that are no text, and a PWD that is stale."""

from __future__ import annotations

from pathlib import Path

import pytest
import setproctitle

from appsrv.commands.common import working_directory
from appsrv.system.process_title import set_title


def test_the_name_of_a_directory_need_not_be_text() -> None:
    before = setproctitle.getproctitle()
    try:
        set_title("appsrv worker /srv/caf\udce9")
        assert setproctitle.getproctitle() == "appsrv worker /srv/caf\ufffd"
    finally:
        set_title(before)


def test_a_stale_pwd_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert working_directory({"PWD": "/nonexistent"}) == tmp_path.resolve()
    assert working_directory({"PWD": ""}) == tmp_path.resolve()
