"""The conditions, common to both frameworks, for appsrv to serve `runserver` and `flask run`. It starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from appsrv.settings.internal_variables import RUNSERVER

_OFF = ("0", "false", "no", "off")
_DEBUGGERS = frozenset({"pydevd", "debugpy", "_pydevd_bundle"})


def switched_off(environ: Mapping[str, str]) -> bool:
    """Whether the environment has APPSRV_RUNSERVER=0 (or false, no, off)."""
    return environ.get(RUNSERVER, "").strip().lower() in _OFF


def debugger_attached(modules: Iterable[str]) -> bool:
    """Whether a debugger is attached to this process; it could not follow the requests into the workers.

    `modules`: the names of the loaded modules.
    """
    return sys.gettrace() is not None or not _DEBUGGERS.isdisjoint(modules)
