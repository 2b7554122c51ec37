"""The metrics port: `/metrics`, and a page with charts of the same figures. Read-only, for every client that reaches
it.

    GET /                     the page, which asks for /status.json
    GET /status.json          figures of the report, and nothing that could be a secret
    GET /metrics              the same for Prometheus
    GET /metrics/application  the application's own metrics, where `prometheus_multiproc` is on

A port that listens on this machine only answers only to requests with a name of this machine, so that no web page can
read it through a browser (DNS rebinding).
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gevent import pywsgi
from gevent import socket as gevent_socket
from gevent.pool import Pool

log = logging.getLogger("appsrv.monitoring")

# The report is made at most once in CACHE_SECONDS. A silent client keeps its connection for CLIENT_SECONDS.
CACHE_SECONDS, CLIENT_SECONDS = 0.5, 15.0
MOST_CLIENTS = 64
PAGE = Path(__file__).with_name("monitoring_page.html")
JSON, TEXT = "application/json", "text/plain; charset=utf-8"

Content = tuple[str, bytes]
_GROUP = (
    "name", "environment", "generation", "state", "spawning", "min_instances", "max_pool_size", "queue", "queue_age",
    "refused", "timed_out", "abandoned", "restarts", "served", "resisting", "deaths_by_cause",
)
_WORKER = (
    "pid", "generation", "state", "sessions", "threads", "processed", "uptime", "last_used", "cpu_seconds", "memory",
)
_SERVER = (
    "pid", "uptime", "connections", "max_connections", "closed_idle", "refused_per_address", "accept_pauses",
    "accepted", "restarts", "answered", "cpu_seconds", "memory",
)


def figures(status: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the report that may be public: numbers and names.

    No request, no line of the application's output, and no path but the group's name.
    """
    return {
        "version": status["version"],
        "time": status["time"],
        "server": _only(_SERVER, status["server"]),
        "app_groups": [
            {
                **_only(_GROUP, group),
                "last_death": _only(("time", "pid", "cause"), group["last_death"]) if group["last_death"] else None,
                "preloaders": [_only(("pid", "generation", "memory"), one) for one in group["preloaders"]],
                "workers": [_only(_WORKER, worker) for worker in group["workers"]],
            }
            for group in status["app_groups"]
        ],
    }


def _only(names: Iterable[str], found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in names if name in found}


def may_be_called(host: str, *, local: bool) -> bool:
    """Whether the Host field of a request may be `host`: any, unless the port listens on this machine only."""
    if not local:
        return True
    name = re.sub(r":\d*$", "", host).strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("", "localhost") or name.endswith(".localhost")
    return True


@cache
def page() -> tuple[bytes, str]:
    """(the page, its Content-Security-Policy): its own script and style may run, and its own figures be fetched."""
    content = PAGE.read_bytes()
    script, style = (_hash(tag, content) for tag in (b"script", b"style"))
    policy = f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:"
    return content, f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _hash(tag: bytes, content: bytes) -> str:
    found = re.search(b"<%b>(.*?)</%b>" % (tag, tag), content, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found.group(1)).digest()).decode()}'"


class MetricsHandler(pywsgi.WSGIHandler):
    """Serves one connection; a silent one is closed after CLIENT_SECONDS."""

    def handle(self) -> None:
        """Serve the connection."""
        self.socket.settimeout(CLIENT_SECONDS)
        super().handle()

    def format_request(self) -> str:
        """Nothing: there is no access log."""
        return ""


class Monitoring:
    """Serves on the listening sockets. `status` gives the report, `application` the application's own metrics, if it
    has any.
    """

    def __init__(
        self, sockets: Iterable[socket.socket], status: Callable[[], dict[str, Any]],
        exposition: Callable[[Mapping[str, Any]], Content], application: Callable[[], Content] | None,
    ) -> None:
        self._make = status
        self._exposition = exposition
        self._application = application
        self._status: dict[str, Any] = {}
        self._made = 0.0
        self._servers = [self._server(sock) for sock in sockets]

    def _server(self, sock: socket.socket) -> pywsgi.WSGIServer:
        host = sock.getsockname()[0]
        local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        listening = gevent_socket.socket(sock.family, socket.SOCK_STREAM, fileno=sock.detach())

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            return self._answer(environ, start_response, local=local)

        return pywsgi.WSGIServer(
            listening, answer, handler_class=MetricsHandler, log=None, error_log=log, spawn=Pool(MOST_CLIENTS)
        )

    def start(self) -> None:
        """Answer from now on."""
        for server in self._servers:
            server.start()

    def _answer(
        self, environ: dict[str, Any], start_response: Callable[..., Any], *, local: bool
    ) -> Iterable[bytes]:
        status, (kind, body) = self._found(environ, local=local)
        headers = [
            ("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
            ("Content-Security-Policy", page()[1] if kind.startswith("text/html") else "default-src 'none'"),
        ]
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(status, headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _found(self, environ: Mapping[str, Any], *, local: bool) -> tuple[str, Content]:
        if not may_be_called(environ.get("HTTP_HOST", ""), local=local):
            return "421 Misdirected Request", (TEXT, b"This is for this machine only: ask for localhost.\n")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", (TEXT, b"Method not allowed: use GET.\n")
        path = environ["PATH_INFO"]
        if path == "/":
            return "200 OK", ("text/html; charset=utf-8", page()[0])
        if path == "/status.json":
            return "200 OK", (JSON, json.dumps(figures(self._report())).encode())
        if path == "/metrics":
            return "200 OK", self._exposition(self._report())
        if path == "/metrics/application" and self._application is not None:
            return "200 OK", self._application()
        return "404 Not Found", (TEXT, b"There are /, /status.json and /metrics here.\n")

    def _report(self) -> dict[str, Any]:
        if time.monotonic() - self._made > CACHE_SECONDS:
            self._status, self._made = self._make(), time.monotonic()
        return self._status
