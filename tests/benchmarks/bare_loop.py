"""The limit: the least that Python can do per request, and no management at all.

Each process accepts for itself (SO_REUSEPORT) in one epoll loop, parses without checking, calls the
application and sends. No limits, no slow clients, no bodies, no errors: not a server, only a yardstick.
Run: `python bare_loop.py hello:app PORT PROCESSES`.
"""

from __future__ import annotations

import importlib
import io
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., None]], Iterable[bytes]]

BASE: Environ = {
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": False,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
    "SCRIPT_NAME": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
}
UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")
DATE = "Date: Sun, 22 Nov 2026 16:00:00 GMT\r\n"
names: dict[str, str] = {}
started: list[Any] = ["", []]


def environ_name(header: str) -> str:
    name = header.upper().replace("-", "_")
    names[header] = name if name in UNPREFIXED else f"HTTP_{name}"
    return names[header]


def parse(data: bytes) -> Environ:
    head = data[: data.find(b"\r\n\r\n")].decode("latin-1")
    request_line, *lines = head.split("\r\n")
    method, target, _ = request_line.split(" ")
    environ = BASE.copy()
    for line in lines:
        header, _, value = line.partition(":")
        environ[names.get(header) or environ_name(header)] = value.strip(" \t")
    path, _, query = target.partition("?")
    environ["REQUEST_METHOD"] = method
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["wsgi.input"] = io.BytesIO()
    return environ


def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
    started[0] = status
    started[1] = headers


def answer(app: Application, data: bytes) -> bytes:
    body = app(parse(data), start_response)
    status, headers = started
    lines = ["HTTP/1.1 ", status, "\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines += (DATE, "\r\n")
    payload = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return "".join(lines).encode("latin-1") + payload


def serve(app: Application, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=1024, reuse_port=True)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                accept(listener, poll, connections)
            else:
                exchange(app, fd, connections)


def accept(listener: socket.socket, poll: select.epoll, connections: dict[int, socket.socket]) -> None:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connections[connection.fileno()] = connection
    poll.register(connection.fileno(), select.EPOLLIN)


def exchange(app: Application, fd: int, connections: dict[int, socket.socket]) -> None:
    try:
        data = connections[fd].recv(65536)
    except OSError:
        data = b""
    if data:
        connections[fd].send(answer(app, data))
    if not data or b"Connection: close" in data:
        connections.pop(fd).close()


def main(target: str, port: str, processes: str) -> None:
    sys.path.insert(0, os.getcwd())
    module, _, name = target.partition(":")
    app: Application = getattr(importlib.import_module(module), name)
    BASE["SERVER_PORT"] = port
    for _ in range(int(processes)):
        if os.fork() == 0:
            serve(app, int(port))
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
