"""Running appsrv as, or for, other users than the one who runs the tests, who may not read what is theirs."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import appsrv

LIBRARY = os.pathsep.join([str(Path(appsrv.__file__ or "").parents[1]), sysconfig.get_path("purelib")])


def python_of_everybody(user: pwd.struct_passwd) -> list[str]:
    """A command that this user, too, can run appsrv with."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        command = [python, "-m", "appsrv"]
        if _can_run(user, [*command, "--version"]):
            return command
    pytest.skip("no Python of this version and no checkout that another user can read")


def _can_run(user: pwd.struct_passwd, argv: list[str]) -> bool:
    environment = {"PYTHONPATH": LIBRARY}
    try:
        return not subprocess.run(
            argv, env=environment, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", capture_output=True,
            check=False,
        ).returncode
    except OSError:
        return False
