"""The client of a running instance's admin socket: JSON over HTTP/1.1 on a unix socket.

One method per request of the server's admin interface; each returns the parsed response. Renders nothing and chooses no
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

# How long to retry if no process listens: a server process that has died is replaced within this time.
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
    """The server at one admin socket. `is_alive` returns whether the instance is running, so that retrying makes sense.

    Every method raises NotRunning if the instance is not running, and AdminError if the server refuses the request or
    does not respond.
    """

    def __init__(
        self, path: Path, is_alive: Callable[[], bool] = lambda: False, *, start_timeout: float = SERVER_RESTART_SECONDS
    ) -> None:
        self._path = path
        self._is_alive = is_alive
        self._start_timeout = start_timeout

    def status(self) -> dict[str, Any]:
        return self._request("GET", "/status")

    def requests(self) -> list[dict[str, Any]]:
        """The requests that are being served or wait in the queue, oldest first."""
        found: list[dict[str, Any]] = self._request("GET", "/requests").get("requests", [])
        return found

    def restart(
        self, prefix: str, parallel: int | None = None, *, stop_first: bool = False
    ) -> list[dict[str, Any]]:
        """Restart the applications at or below the path `prefix`. Blocks until the outcome is known; one entry for
        each.

        `parallel`: the number of workers to replace at a time, instead of that in the settings. `stop_first`: end the
        processes with the old code before loading the new code.
        """
        order: dict[str, object] = {"prefix": prefix}
        if parallel is not None:
            order["parallel"] = parallel
        if stop_first:
            order["stop_first"] = True
        answer = self._request("POST", "/restart", order, timeout=None)
        restarted: list[dict[str, Any]] = answer.get("restarted", [])
        return restarted

    def detach(self, pid: int) -> dict[str, Any]:
        """Detach a worker from its pool. Blocks until it has left (`detached`) or is known to be unable to (`message`).
        """
        return self._request("POST", "/detach", {"pid": pid}, timeout=None)

    def stop(self) -> None:
        """Stop the instance. Returns at once; the instance has ended when its lock is free."""
        self._request("POST", "/stop")

    def reopen_logs(self) -> None:
        self._request("POST", "/reopen-logs")

    def _request(
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
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise AdminError(f"the server ended before it answered ({reason})") from None
        finally:
            connection.close()

    def _connected(self, timeout: float | None) -> _UnixConnection:
        deadline = time.monotonic() + self._start_timeout
        while True:
            connection = _UnixConnection(self._path, timeout)
            try:
                connection.connect()
                return connection
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                self._check_deadline(deadline)
            except OSError as error:
                raise AdminError(f"the admin socket {self._path} cannot be used: {error.strerror}") from None
            time.sleep(POLL_INTERVAL_SECONDS)

    def _check_deadline(self, deadline: float) -> None:
        if not self._is_alive():
            raise NotRunning(f"appsrv is not running: no process listens on {self._path}")
        if time.monotonic() > deadline:
            raise AdminError(f"appsrv is running, but its server process does not listen on {self._path}")


def _answer(status: int, content: bytes) -> dict[str, Any]:
    """The JSON object of a successful response. Raises AdminError with the `error` of any other one."""
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
