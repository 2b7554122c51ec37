"""The warm-up request: one that the preloader answers itself before it forks, so that workers share what it loads.

Knows the application as any client does. Off unless `warm_up_path` is set: a first request may start threads, which do
not live on in the workers.
"""

from __future__ import annotations

import io
from typing import Any

from appsrv import wsgi
from appsrv.environ import build_environ
from appsrv.http1 import parse_head
from appsrv.http_response import http_date
from appsrv.http_syntax import Limits


class _Nowhere:
    """A client that takes everything and looks at nothing."""

    def send(self, data: bytes, /) -> None:
        """Take it."""

    def sendfile(self, fd: int, offset: int, count: int, /) -> None:
        """Take it."""

    def cut(self) -> None:
        """Mind nothing."""


def warm_up(application: Any, path: str, environ: dict[str, Any]) -> int:
    """Ask the application for `path`; returns the status it answered with. `environ` is what a request starts from."""
    host = environ.get("SERVER_NAME", "localhost")
    port = environ.get("SERVER_PORT", "80")
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: appsrv-warm-up\r\nConnection: close\r\n\r\n"
    parsed = parse_head(request.encode(), Limits())
    assert parsed is not None
    head, _ = parsed
    full = build_environ(environ, head, io.BytesIO(), None, "127.0.0.1", "0")
    return wsgi.respond(application, full, head, _Nowhere(), date=http_date(0.0)).status
