"""A FIFO whose writer serves it once, or never comes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from appsrv.apps import app_spec
from appsrv.errors import SettingsError
from appsrv.system import fifo


def make(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    os.mkfifo(path)
    return path


def test_what_is_written_once_is_read_once_and_remembered(tmp_path: Path) -> None:
    path = make(tmp_path)
    assert fifo.is_fifo(str(path))
    content = "TOKEN=s3cret\n" + "".join(f"V{number}={'x' * 200}\n" for number in range(1000))
    writer = threading.Thread(target=path.write_text, args=[content])
    writer.start()
    first = app_spec.read_dotenv(str(path))
    writer.join(10)
    assert (first["TOKEN"], len(first)) == ("s3cret", 1001)
    assert app_spec.load_dotenv(str(tmp_path), {"TOKEN": "set already"}).keys() == first.keys() - {"TOKEN"}


def test_a_writer_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path)
    with pytest.raises(TimeoutError, match=r"no program wrote it within 0\.05 s"):
        fifo.read_once(str(path), 0.05)
    monkeypatch.setattr(fifo.read_once, "__defaults__", (0.05,))
    with pytest.raises(SettingsError, match=r"\.env cannot be read: no program wrote it"):
        app_spec.read_dotenv(str(path))


def test_other_files_are_no_fifo(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not any(map(fifo.is_fifo, (str(tmp_path), str(tmp_path / "file"), str(tmp_path / "none"))))
