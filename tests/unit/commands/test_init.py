"""`appsrv init`: where the lines go, and which files it had better leave alone."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from appsrv.apps import dependency_files
from appsrv.commands.init import changes, settings_text
from appsrv.errors import OperatorError
from appsrv.settings import sources
from appsrv.settings.row import SettingRow
from appsrv.settings.table import ROWS

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

PLAIN = '[project]\nname = "shop"\ndependencies = ["flask"]\n'


def written(directory: Path, settings_file: Path | None = None) -> dict[str, str]:
    made = changes(directory, settings_file)
    for change in made:
        change.path.write_text(change.after, encoding="utf-8")
    assert changes(directory, settings_file) == [], "a second time there is nothing left to do"
    return {str(change.path.relative_to(directory)): change.after for change in made}


def test_a_project_without_anything(tmp_path: Path) -> None:
    files = written(tmp_path)
    assert files["requirements.txt"] == "appsrv\n"
    assert tomllib.loads(files["appsrv.toml"]) == {}


@pytest.mark.parametrize(
    "dependencies",
    [
        'dependencies = ["flask"]',
        "dependencies = []",
        'dependencies = [\n    "flask",\n    "gunicorn",  # the old one\n]',
        "dependencies = [\n  'flask',\n]",
        'dependencies = [ "flask[async]>=3" ]',
        "",
        'dependencies = [\n]',
    ],
)
def test_pyproject(tmp_path: Path, dependencies: str) -> None:
    before = f'[build-system]\nrequires = []\n\n[project]\nname = "shop"\n{dependencies}\n\n[tool.other]\nx = 1\n'
    (tmp_path / "pyproject.toml").write_text(before)
    after = tomllib.loads(written(tmp_path)["pyproject.toml"])
    old: dict[str, Any] = tomllib.loads(before)
    assert sorted(after["project"]["dependencies"]) == sorted([*old["project"].get("dependencies", []), "appsrv"])
    assert (after["tool"]["other"], after["tool"]["appsrv"]) == ({"x": 1}, {})
    assert dependency_files.names_appsrv(str(tmp_path))


def test_poetry(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.poetry.dependencies]\npython = "^3.11"\n\n[tool.ruff]\nx = 1\n')
    after = tomllib.loads(written(tmp_path)["pyproject.toml"])
    assert after["tool"]["poetry"]["dependencies"] == {"python": "^3.11", "appsrv": "*"}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("requirements.txt", "flask\n", "flask\nappsrv\n"),
        ("requirements.txt", "flask", "flask\nappsrv\n"),
        ("requirements.in", "", "appsrv\n"),
        ("Pipfile", '[packages]\nx = "*"\n\n[dev]\n', '[packages]\nx = "*"\nappsrv = "*"\n\n[dev]\n'),
    ],
)
def test_other_files(tmp_path: Path, name: str, before: str, after: str) -> None:
    (tmp_path / name).write_text(before)
    assert written(tmp_path)[name] == after


def test_a_project_that_has_everything(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PLAIN.replace("flask", "appsrv[static]") + "\n[tool.appsrv]\nport = 1\n")
    assert changes(tmp_path) == []


def test_a_form_that_is_not_understood(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\n"dependencies" = ["flask"]\n')
    with pytest.raises(OperatorError, match="by hand"):
        changes(tmp_path)


def test_dependencies_that_are_kept_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\ndynamic = ["version", "dependencies"]\n')
    (tmp_path / "requirements.txt").write_text("flask\n")
    assert written(tmp_path)["requirements.txt"] == "flask\nappsrv\n"


def test_what_stands_in_comments_is_true() -> None:
    """Every setting with its default: uncommented, the file means what it meant before."""
    lines = re.findall(r"^#(\w+) = (.*)$", settings_text(), re.MULTILINE)
    assert [name for name, _ in lines] == [row.name for row in sorted(ROWS, key=group_number)]
    values = {name: tomllib.loads(f"x = {value}")["x"] for name, value in lines}
    for row in ROWS:
        if row.sample is None:
            assert row.kind.parse(values[row.name]) == row.kind.parse(row.default), row.name
        else:
            row.kind.parse(values[row.name])


NEED_ANOTHER_SETTING = {"ssl_address", "ssl_certificate_key", "ssl_port"}


def test_each_line_of_the_settings_can_be_uncommented(tmp_path: Path) -> None:
    wrong = set()
    for name, value in re.findall(r"^#(\w+) = (.*)$", settings_text(), re.MULTILINE):
        (tmp_path / "appsrv.toml").write_text(f"{name} = {value}\n")
        if sources.read({}, {}, tmp_path).errors:
            wrong.add(name)
    assert wrong == NEED_ANOTHER_SETTING


def group_number(row: SettingRow) -> int:
    return list(dict.fromkeys(other.group for other in ROWS)).index(row.group)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('INSTALLED_APPS = [\n    "shop",\n]\n', 'INSTALLED_APPS = [\n    "appsrv_django",\n    "shop",\n]\n'),
        ('INSTALLED_APPS = ["shop"]\n', 'INSTALLED_APPS = ["appsrv_django", "shop"]\n'),
        ("INSTALLED_APPS = []\n", 'INSTALLED_APPS = ["appsrv_django"]\n'),
    ],
)
def test_installed_apps(tmp_path: Path, before: str, after: str) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text(f"DEBUG = True\n{before}")
    assert written(tmp_path, settings)["settings.py"] == f"DEBUG = True\n{after}"


def test_installed_apps_that_are_put_together(tmp_path: Path) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text("INSTALLED_APPS = BASE + ['shop']\n")
    with pytest.raises(OperatorError, match="INSTALLED_APPS"):
        changes(tmp_path, settings)


def test_diff(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask")
    first = changes(tmp_path)[0].diff(tmp_path)
    assert first.splitlines()[:2] == ["--- a/requirements.txt", "+++ b/requirements.txt"]
    assert "\n+appsrv\n" in first
