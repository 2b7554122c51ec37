"""Names files for the server to send: the path is the value of X-Accel-Redirect, or with ?path= of X-Sendfile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]


def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/pid":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
    named = ("X-Sendfile", query.removeprefix("path=")) if query.startswith("path=") else ("X-Accel-Redirect", path)
    start_response("200 OK", [("Content-Type", "video/mp4"), named])
    return []
