"""Requests that appsrv makes itself, inside the process that has the application: the warm-up and the health check.

The *warm-up* is answered by the preloader before it forks, so that workers share what it loads. It is off unless
`warm_up_path` is set: a first request may start threads, which do not live on in the workers. The *health check* is
answered by a new generation's worker before it takes a client's request. Knows the application as any client does.
"""

from __future__ import annotations

import io
from typing import Any

from appsrv.http.head import parse_head
from appsrv.http.response import http_date
from appsrv.http.syntax import Limits
from appsrv.wsgi import run
from appsrv.wsgi.environ import build_environ
from appsrv.wsgi.upstream_hooks import KEY, Proxied


class _Nowhere:
    """A client that takes everything and looks at nothing."""

    def send(self, data: bytes, /) -> None:
        """Take it."""

    def send_piece(self, data: bytes, chunked: bool, /) -> None:
        """Take it."""

    def sendfile(self, fd: int, offset: int, count: int, /) -> None:
        """Take it."""

    def cut(self) -> None:
        """Mind nothing."""


def ask(application: Any, path: str, environ: dict[str, Any], *, agent: str, host: str | None = None) -> int:
    """GET `path`; returns the status it was answered with. `environ` is what a request starts from.

    `host` is the Host header: by default the address that is listened on.
    """
    if host is None:
        host = f"{environ.get('SERVER_NAME', 'localhost')}:{environ.get('SERVER_PORT', '80')}"
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
    parsed = parse_head(request.encode(), Limits())
    assert parsed is not None
    head, _ = parsed
    full = build_environ(environ, head, io.BytesIO(), None, "127.0.0.1", "0")
    full[KEY] = Proxied(head)
    return run.respond(application, full, head, _Nowhere(), date=http_date(0.0)).status


def ill(status: int) -> bool:
    """Whether this is not the answer of a healthy application: 2xx and 3xx are (RFC 9110 section 15)."""
    return not 200 <= status < 400
