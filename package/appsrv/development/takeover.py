"""Whether appsrv takes over `runserver` and `flask run`: what is asked for both frameworks. Starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from appsrv.settings.internal_variables import RUNSERVER

_OFF = ("0", "false", "no", "off")
_DEBUGGERS = frozenset({"pydevd", "debugpy", "_pydevd_bundle"})


def switched_off(environ: Mapping[str, str]) -> bool:
    """True when APPSRV_RUNSERVER=0 (or false, no, off)."""
    return environ.get(RUNSERVER, "").strip().lower() in _OFF


def debugger_attached(modules: Iterable[str]) -> bool:
    """Whether a debugger holds this process, which would lose it in the workers. `modules`: names of those loaded."""
    return sys.gettrace() is not None or not _DEBUGGERS.isdisjoint(modules)
