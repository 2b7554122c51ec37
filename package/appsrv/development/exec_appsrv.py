"""Turns a framework's command into appsrv's own: `manage.py appsrv start` becomes `appsrv start`, in the same process.

execve(2) replaces the whole process, so the watchdog of `start` holds no modules of the framework.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from appsrv.system import interpreter_flags


def become_appsrv(arguments: Sequence[str], directory: str, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by `appsrv ARGUMENTS` in the project's directory, with the environment `environ`."""
    os.chdir(directory)
    sys.stdout.flush()
    sys.stderr.flush()
    code = interpreter_flags.code_for("appsrv.cli")
    command = [sys.executable, *interpreter_flags.for_application(), "-c", code, *arguments]
    os.execve(sys.executable, command, {**environ, "PWD": directory})
