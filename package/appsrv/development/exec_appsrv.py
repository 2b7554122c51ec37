"""From a framework's command to appsrv's own: `manage.py appsrv start` becomes `appsrv start`, in the same process.

Nothing of the framework stays behind: the watchdog that comes of `start` is as small as ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from appsrv.system import interpreter_flags


def become_appsrv(arguments: Sequence[str], directory: str, environ: Mapping[str, str]) -> NoReturn:
    """Run `appsrv ARGUMENTS` in the project's directory instead of what runs now."""
    os.chdir(directory)
    sys.stdout.flush()
    sys.stderr.flush()
    code = interpreter_flags.code_for("appsrv.cli")
    command = [sys.executable, *interpreter_flags.for_application(), "-c", code, *arguments]
    os.execve(sys.executable, command, {**environ, "PWD": directory})
