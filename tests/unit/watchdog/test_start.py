"""Starting an instance: what is read before its processes exist."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dotenv
import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import AppLoadError, OperatorError, SettingsError
from appsrv.instance.run_directory import InstanceInfo
from appsrv.settings.table import Settings
from appsrv.watchdog import start


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that every user may enter."""
    assert dotenv  # Imported here: another user may not be able to.
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what is another user's")
def test_a_fifo_that_the_user_of_the_application_cannot_read_is_not_read(directory: Path) -> None:
    (directory / "app").mkdir()
    os.mkfifo(directory / "secret", 0o600)
    (directory / "app" / ".env").symlink_to(directory / "secret")
    group = AppGroup.alone(AppSpec(root=str(directory / "app")), Settings(user="nobody"))
    with pytest.raises(SettingsError, match="Permission denied"):
        start._with_secrets(group, {})


def sent(*outcomes: dict[str, object]) -> InstanceInfo:
    """What the command gets from a daemon that reports these."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        for outcome in outcomes:
            start._send_outcome(writer, outcome)
        writer.close()
        return start._receive_outcome(reader)


def test_a_daemon_reports_once_whether_it_has_booted() -> None:
    info = InstanceInfo("shop-8000", 1, "1", "/srv/shop", "app", "production", (), None, None, 0.0)
    assert sent({"info": info.to_json()}, {"exit_code": 1, "message": "an error after the boot"}) == info
    with pytest.raises(AppLoadError, match="no module named shop") as caught:
        sent({"exit_code": AppLoadError.exit_code, "message": "no module named shop", "traceback": "Traceback"})
    assert caught.value.traceback == "Traceback"
    with pytest.raises(OperatorError, match="appsrv exited without an error message"):
        sent()
