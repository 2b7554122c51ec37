"""`manage.py runserver` and `flask run` as peers: each with appsrv, and each with the framework's own server.

The projects are copied to a scratch directory, because a reload test rewrites one of their files. Two are not ours
alone: the example project, with its database, and what `django-admin startproject` makes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECTS = HERE / "projects"
EXAMPLES = HERE.parents[1] / "example_projects"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class DevServer:
    """One way to serve a project while it is developed."""

    name: str
    variables: Mapping[str, str]
    watchfiles: bool = True

    def environment(self, project: Path) -> dict[str, str]:
        """What this way finds in its environment beside everything else."""
        path = [str(project)] if self.watchfiles else [str(HERE / "without_watchfiles"), str(project)]
        return {**self.variables, "PYTHONPATH": os.pathsep.join(path)}


ORIGINALS = (
    DevServer("appsrv", {}),
    DevServer("appsrv without watchfiles", {}, watchfiles=False),
    DevServer("the framework's own", {"APPSRV_RUNSERVER": "0"}),
)


def command(kind: str, port: int, project: Path) -> list[str]:
    if kind == "runserver":
        return [sys.executable, str(project / "manage.py"), "runserver", str(port)]
    return [str(BIN / "flask"), "--app", "views", "--debug", "run", "--port", str(port)]


def copy_project(name: str, scratch: Path) -> Path:
    project = scratch / "project"
    if name == "startproject":
        project.mkdir()
        _run([str(BIN / "django-admin"), "startproject", "site_of_its_own", "."], project)
        (project / "requirements.txt").write_text("appsrv\n")
    elif name == "example":
        shutil.copytree(EXAMPLES / "django", project)
        _run([sys.executable, "manage.py", "migrate", "--no-input"], project)
    else:
        shutil.copytree(PROJECTS / name, project)
    return project


def _run(command: list[str], directory: Path) -> None:
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
