"""Requests that appsrv makes itself, inside the process that has the application: the warm-up and the health check.

The *warm-up* runs in the preloader before it forks, so that workers share the modules and caches that it loads. It is
off unless `warm_up_path` is set, because a first request may start threads, and threads do not survive a fork. The
*health check* runs in the first worker of a new generation before that worker takes a client's request.
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


class _DiscardingOutput:
    """A `ResponseOutput` that discards the response."""

    def send(self, data: bytes, /) -> None:
        """Discard `data`."""

    def send_piece(self, data: bytes, chunked: bool, /) -> None:
        """Discard `data`."""

    def sendfile(self, fd: int, offset: int, count: int, /) -> None:
        """Discard the file."""

    def cut(self) -> None:
        """Do nothing: there is no connection to end."""


def get_status(application: Any, path: str, environ: dict[str, Any], *, agent: str, host: str | None = None) -> int:
    """Make the application answer `GET path`, and return the status code of its response.

    `environ`: the base environ of the listener (`environ.environ_base`). `agent`: the User-Agent header. `host`: the
    Host header; by default the listener's address. An exception in the application counts as status 500.
    """
    if host is None:
        host = f"{environ.get('SERVER_NAME', 'localhost')}:{environ.get('SERVER_PORT', '80')}"
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
    parsed = parse_head(request.encode(), Limits())
    assert parsed is not None
    head, _ = parsed
    full = build_environ(environ, head, io.BytesIO(), None, "127.0.0.1", "0")
    full[KEY] = Proxied(head)
    return run.respond(application, full, head, _DiscardingOutput(), date=http_date(0.0)).status


def is_unhealthy(status: int) -> bool:
    """Whether this status fails the health check: anything but 2xx and 3xx (RFC 9110 section 15)."""
    return not 200 <= status < 400
