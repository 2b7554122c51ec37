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
from appsrv.errors import SettingsError
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
