"""The log lines about response headers that appsrv drops: one for each place in the code that sets them.

In a framework one place calls start_response for all views; a middleware or a plain WSGI application has its own. This
module knows the frames of the call and the environ, not HTTP.
"""

from __future__ import annotations

import contextlib
import sys
from types import FrameType
from typing import Any

from appsrv.system import own_frames

__all__ = ["log_dropped", "place_of_call"]

# The names and places that were logged, and their maximum: an application that generates names cannot fill the log.
_logged: set[tuple[str, str]] = set()
_MAX_LOGGED = 50


def place_of_call() -> str:
    """`file:line` of the call of start_response: the innermost frame outside of appsrv; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and own_frames.is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def log_dropped(names: list[str], place: str, environ: dict[str, Any]) -> None:
    """Log which headers of the response to this request were dropped; each name and place is logged once."""
    new = [name for name in names if (name.lower(), place) not in _logged]
    if not new or len(_logged) >= _MAX_LOGGED:
        return
    _logged.update((name.lower(), place) for name in new)
    # The query is left out because it may hold secrets. Other characters than ASCII are escaped, because a terminal may
    # take some of them for control sequences (ECMA-48, C1).
    path = str(environ.get("REQUEST_URI", "")).partition("?")[0].encode("ascii", "backslashreplace").decode()
    # An error in writing to the log must not change the response.
    with contextlib.suppress(Exception):
        environ["wsgi.errors"].write(
            f"appsrv: {', '.join(new)} in the response to {environ['REQUEST_METHOD']} {path} is left out: such headers "
            f"concern the connection, which is the server's (PEP 3333, RFC 9110 section 7.6.1). start_response was "
            f"called at {place}. This is logged once\n"
        )
        environ["wsgi.errors"].flush()
