"""command_line.py: the file of an application that has not been imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from appsrv.apps.app_spec import AppSpec
from appsrv.preloader.command_line import application_file


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("app", "app.py"), ("app:make(1)", "app.py"), ("shop.wsgi:application", "shop/wsgi.py"),
        ("shop", "shop/__init__.py"), ("installed.elsewhere", None), ("", None),
    ],
)
def test_the_file_of_a_target(tmp_path: Path, target: str, file: str | None) -> None:
    (tmp_path / "shop").mkdir()
    for name in ("app.py", "shop/wsgi.py", "shop/__init__.py"):
        (tmp_path / name).touch()
    expected = None if file is None else str(tmp_path / file)
    assert application_file(AppSpec(root=str(tmp_path), target=target)) == expected


def test_a_file_that_is_named() -> None:
    assert application_file(AppSpec(root="/srv", target="my", startup_file="/srv/my-site.py")) == "/srv/my-site.py"
