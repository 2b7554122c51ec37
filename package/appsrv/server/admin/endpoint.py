"""The admin socket: small JSON over HTTP on a unix socket in the run directory, for the commands and for monitoring.

    GET  /status        everything the server knows of itself
    GET  /requests      those that are being served, and those that wait
    GET  /metrics       the same for Prometheus
    POST /restart       {"prefix": "/srv/shop"} or "/" for all, and {"parallel": 2}; answers when the outcome is known
    POST /detach        {"pid": 4711}; answers when that worker has left
    POST /stop          ends the whole instance
    POST /reopen-logs   opens the server log again

Only the user who runs the instance, and root, get an answer: the kernel tells which user connects (SO_PEERCRED,
unix(7)).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gevent import pywsgi
from gevent import socket as gevent_socket

log = logging.getLogger("appsrv.admin")


@dataclass(frozen=True)
class Text:
    """A response that is not JSON."""

    content_type: str
    content: bytes


Answer = tuple[int, Any]
Route = Callable[[Mapping[str, Any]], Answer]
LARGEST_REQUEST = 64 * 1024
_REASONS = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    501: "Not Implemented",
}


class AdminHandler(pywsgi.WSGIHandler):
    """Serves one connection, if its user may use the socket."""

    def handle(self) -> None:
        """First ask the kernel which user it is."""
        if may_ask(peer_uid(self.socket), os.geteuid()):
            super().handle()
        else:
            log.warning("a process of user %d was turned away from the admin socket", peer_uid(self.socket))
            self.socket.close()

    def format_request(self) -> str:
        """Nothing: the admin socket has no access log."""
        return ""


class Admin:
    """Serves the routes on a listening socket. `routes` maps (method, path) to the function that answers."""

    def __init__(self, sock: socket.socket, routes: Mapping[tuple[str, str], Route]) -> None:
        self._routes = routes
        listening = gevent_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=sock.detach())
        self._server = pywsgi.WSGIServer(
            listening, self._application, handler_class=AdminHandler, log=None, error_log=log
        )

    def start(self) -> None:
        """Answer from now on."""
        self._server.start()

    def _application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, answer = self._answer(environ)
        if not isinstance(answer, Text):
            answer = Text("application/json", json.dumps(answer).encode())
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.content)))]
        start_response(f"{status} {_REASONS[status]}", headers)
        return [answer.content]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        route = self._routes.get((method, path))
        if route is None:
            known = any(path == other for _, other in self._routes)
            return (405, {"error": f"{path} does not take {method}"}) if known else (404, {"error": f"no {path} here"})
        try:
            body = environ["wsgi.input"].read(LARGEST_REQUEST)
            arguments = json.loads(body) if body else {}
        except ValueError:
            return 400, {"error": "the body is not JSON"}
        if not isinstance(arguments, dict):
            return 400, {"error": "the body is not a JSON object"}
        return route(arguments)


def peer_uid(sock: Any) -> int:
    """The user id of the process at the other end of a unix socket, from the kernel."""
    if hasattr(socket, "SO_PEERCRED"):
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)
    # LOCAL_PEERCRED of macOS and the BSDs: struct xucred, of which the version and then the uid are read (unix(4)).
    _, uid = struct.unpack_from("II", sock.getsockopt(0, 1, 76))
    return int(uid)


def may_ask(asking: int, own: int) -> bool:
    """Whether this user may see and control an instance of the user `own`."""
    return asking in (0, own)
