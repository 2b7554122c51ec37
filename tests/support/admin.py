"""A fake server behind an admin socket: answers as it is told, remembers what it was asked."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "instance": {
        "name": "shop-8000-1f0c9a3e",
        "pid": 18330,
        "started": 1700000000.0,
        "root": "/srv/shop",
        "environment": "production",
        "bind": ["http://127.0.0.1:8000/"],
        "pid_file": "/srv/shop/appsrv.8000.pid",
        "log_file": "/srv/shop/appsrv.8000.log",
    },
    "server": {"pid": 18331, "uptime": 3661.5, "connections": 3, "ready_queue": "epoll", "restarts": 1},
    "max_pool_size": 6,
    "processes": 1,
    "queue": 0,
    "app_groups": [
        {
            "name": "/srv/shop",
            "environment": "production",
            "root": "/srv/shop",
            "app": "wsgi:application",
            "generation": 2,
            "state": "running",
            "spawning": 0,
            "queue": 4,
            "last_error": None,
            "last_death": None,
            "workers": [
                {
                    "pid": 18334,
                    "generation": 2,
                    "state": "idle",
                    "sessions": 0,
                    "threads": 1,
                    "processed": 4595,
                    "uptime": 21209.7,
                    "cpu": 0.4,
                    "memory": 99 << 20,
                    "last_used": 4.2,
                }
            ],
        }
    ],
}


class FakeAdmin:
    """A context manager. `answers` maps `GET /status` to (HTTP status, JSON value or bytes)."""

    def __init__(self, path: Path) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            "GET /status": (200, STATUS),
            "POST /restart": (200, {"restarted": []}),
            "POST /stop": (202, {}),
            "POST /reopen-logs": (200, {}),
        }
        self.on_stop = threading.Event()
        self._server = socketserver.ThreadingUnixStreamServer(str(path), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> FakeAdmin:
        self._thread.start()
        return self

    def __exit__(self, *ended_by: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = f"{self.command} {self.path}"
                fake.asked.append((asked, json.loads(body) if body else None))
                status, value = fake.answers.get(asked, (404, {"error": "no such thing"}))
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if asked == "POST /stop":
                    fake.on_stop.set()

            do_GET = do_POST = answer

            def log_message(self, format: str, *args: object) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        return Handler
