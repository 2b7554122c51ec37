"""The description of an application, as processes hand it on, and the file `.env` beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appsrv.apps import app_spec
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import SettingsError


def test_specs_travel_as_json() -> None:
    spec = AppSpec("/srv/shop", kind="command", argv=("python", "manage.py"))
    assert AppSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.name == "/srv/shop"


def test_dotenv_adds_what_is_not_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nB='two words'\nC\n# D=4\n")
    assert app_spec.load_dotenv(str(tmp_path), {"A": "set"}) == {"B": "two words"}


def test_no_dotenv_or_a_virtual_environment_of_that_name(tmp_path: Path) -> None:
    assert app_spec.load_dotenv(str(tmp_path), {}) == {}
    (tmp_path / ".env").mkdir()
    assert app_spec.load_dotenv(str(tmp_path), {}) == {}


def test_a_dotenv_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        app_spec.load_dotenv(str(tmp_path), {})
