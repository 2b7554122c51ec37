"""Response headers that clients do not get, told in the log: once for each place that gives them.

A framework has one place for all views; a middleware or a plain WSGI application is named by its own. Knows the frames
of the call and the environ, not HTTP.
"""

from __future__ import annotations

import contextlib
import sys
from types import FrameType
from typing import Any

from appsrv.system import own_frames

__all__ = ["place_of_call", "tell"]

# Names and places that the log has. So many places at most: what an application generates is not told for ever.
_told: set[tuple[str, str]] = set()
_MOST = 50


def place_of_call() -> str:
    """Where the application calls start_response: the innermost file and line outside of appsrv."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and own_frames.is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def tell(names: list[str], place: str, environ: dict[str, Any]) -> None:
    """Say which headers of this request's response were left out, where the log does not have that yet."""
    new = [name for name in names if (name.lower(), place) not in _told]
    if not new or len(_told) >= _MOST:
        return
    _told.update((name.lower(), place) for name in new)
    # A terminal may take some of what is not ASCII for commands, and secrets stand in the query.
    path = str(environ.get("REQUEST_URI", "")).partition("?")[0].encode("ascii", "backslashreplace").decode()
    # A log that cannot be written to must not change the answer.
    with contextlib.suppress(Exception):
        environ["wsgi.errors"].write(
            f"appsrv: {', '.join(new)} in the response to {environ['REQUEST_METHOD']} {path} is left out: such headers "
            f"concern the connection, which is the server's (PEP 3333, RFC 9110 section 7.6.1). start_response was "
            f"called at {place}. This is logged once\n"
        )
        environ["wsgi.errors"].flush()
