"""What is imported where appsrv is installed and not used: next to nothing, and never gevent."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
STARTUP = (ROOT / "django_integration" / "appsrv_django.pth").read_text(encoding="utf-8")


def imported(*arguments: str, cwd: Path) -> set[str]:
    """The top packages and modules of ours that a start of Python imports."""
    argv = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=True)
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in ("appsrv", "appsrv_django", "appsrv_flask")}


def test_a_python_that_does_something_else_imports_nothing_of_ours(tmp_path: Path) -> None:
    assert ours(imported("-c", STARTUP, cwd=tmp_path)) == set()


@pytest.mark.parametrize(
    ("project", "arguments"), [("django", ("manage.py", "check")), ("flask", ("-m", "flask", "routes"))]
)
def test_other_commands_import_no_server(project: str, arguments: tuple[str, ...]) -> None:
    pytest.importorskip(project)
    names = imported(*arguments, cwd=ROOT / "example_projects" / project)
    assert "gevent" not in names
    assert {"appsrv.server.process", "appsrv.watchdog.process", "appsrv.preloader.process"} & names == set()
