"""`manage.py runserver` and `flask run` as peers: each with appsrv, and each with the framework's own server.

The projects are copied to a scratch directory, because a reload test rewrites one of their files.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECTS = Path(__file__).resolve().parent / "projects"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class DevServer:
    """One way to serve a project while it is developed."""

    name: str
    environment: dict[str, str]


ORIGINALS = (
    DevServer("appsrv", {}),
    DevServer("the framework's own", {"APPSRV_RUNSERVER": "0"}),
)


def command(kind: str, port: int, project: Path) -> list[str]:
    if kind == "runserver":
        return [sys.executable, str(project / "manage.py"), "runserver", str(port)]
    return [str(BIN / "flask"), "--app", "views", "--debug", "run", "--port", str(port)]


def copy_project(name: str, scratch: Path) -> Path:
    project = scratch / "project"
    shutil.copytree(PROJECTS / name, project)
    return project
