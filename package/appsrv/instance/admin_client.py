"""Asks a running instance over its admin socket: JSON over HTTP/1.1 on a unix socket.

One method per thing the server can be asked; each returns the parsed answer. Renders nothing and chooses no
instance.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appsrv.errors import AdminError, NotRunning

# A server process that died is replaced within this time, and its clients need not know.
SERVER_RESTART_SECONDS = 3.0
ANSWER_SECONDS = 10.0
POLL_INTERVAL_SECONDS = 0.02


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


class AdminClient:
    """The server behind one admin socket. `is_alive` tells whether waiting for it makes sense.

    Every method raises NotRunning when nobody is there, AdminError when the server refuses or is silent.
    """

    def __init__(
        self, path: Path, is_alive: Callable[[], bool] = lambda: False, *, patience: float = SERVER_RESTART_SECONDS
    ) -> None:
        self._path = path
        self._is_alive = is_alive
        self._patience = patience

    def status(self) -> dict[str, Any]:
        return self._ask("GET", "/status")

    def requests(self) -> list[dict[str, Any]]:
        """Those that are being served and those that wait, the oldest first."""
        found: list[dict[str, Any]] = self._ask("GET", "/requests").get("requests", [])
        return found

    def restart(
        self, prefix: str, parallel: int | None = None, *, stop_first: bool = False
    ) -> list[dict[str, Any]]:
        """Returns when the outcome is known: one entry per application at or below that path.

        `parallel`: how many workers to replace at a time, if not as the server's settings say. `stop_first`: the
        processes of the code before end before the new code is loaded.
        """
        order: dict[str, object] = {"prefix": prefix}
        if parallel is not None:
            order["parallel"] = parallel
        if stop_first:
            order["stop_first"] = True
        answer = self._ask("POST", "/restart", order, timeout=None)
        restarted: list[dict[str, Any]] = answer.get("restarted", [])
        return restarted

    def detach(self, pid: int) -> dict[str, Any]:
        """Returns when the worker has left (`detached`), or when it is clear that it cannot yet (`message`)."""
        return self._ask("POST", "/detach", {"pid": pid}, timeout=None)

    def stop(self) -> None:
        """Returns at once; the instance is gone when its lock is free."""
        self._ask("POST", "/stop")

    def reopen_logs(self) -> None:
        self._ask("POST", "/reopen-logs")

    def _ask(
        self, method: str, path: str, body: object = None, *, timeout: float | None = ANSWER_SECONDS
    ) -> dict[str, Any]:
        connection = self._connected(timeout)
        try:
            content = b"" if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return _answer(response.status, response.read())
        except TimeoutError:
            raise AdminError(f"the server does not answer ({self._path})") from None
        except (OSError, http.client.HTTPException) as error:
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            raise AdminError(f"the server ended while it was asked ({said})") from None
        finally:
            connection.close()

    def _connected(self, timeout: float | None) -> _UnixConnection:
        deadline = time.monotonic() + self._patience
        while True:
            connection = _UnixConnection(self._path, timeout)
            try:
                connection.connect()
                return connection
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                self._give_up_after(deadline)
            except OSError as error:
                raise AdminError(f"the admin socket {self._path} cannot be used: {error.strerror}") from None
            time.sleep(POLL_INTERVAL_SECONDS)

    def _give_up_after(self, deadline: float) -> None:
        if not self._is_alive():
            raise NotRunning(f"appsrv is not running: nobody listens on {self._path}")
        if time.monotonic() > deadline:
            raise AdminError(f"appsrv is running, but its server process does not listen on {self._path}")


def _answer(status: int, content: bytes) -> dict[str, Any]:
    """The JSON object of a good answer; a bad one carries its reason as `error`."""
    try:
        found = json.loads(content) if content.strip() else {}
    except ValueError:
        found = None
    if status >= 400:
        reason = found.get("error") if isinstance(found, dict) else None
        raise AdminError(f"the server refused: {reason or f'HTTP status {status}'}")
    if not isinstance(found, dict):
        raise AdminError("the server's answer is not a JSON object")
    return found
