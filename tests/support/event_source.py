"""What a browser's EventSource does: read server-sent events, and when they end, ask again after a moment.

The events of a stream that was cut and those of the next one are one sequence to whoever reads them (HTML, 9.2).
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time

from support.http import Address, Connection

RETRY = 0.05


class EventSource:
    """Reads `target` in a thread of its own until it is closed."""

    def __init__(self, address: Address, target: str) -> None:
        self._address = address
        self._target = target
        self._closed = False
        self._connection: Connection | None = None
        self.events: list[str] = []
        self.opened = 0
        """Requests that were answered."""
        self.asked = 0
        """Requests that were sent."""
        self.refused = 0
        """Connections that nobody took."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _run(self) -> None:
        while not self._closed:
            try:
                self._connection = Connection(self._address, timeout=60.0)
            except OSError:
                self.refused += 1
            else:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self._read(self._connection)
                self._connection.close()
            time.sleep(RETRY)

    def _read(self, connection: Connection) -> None:
        connection.request("GET", self._target, headers={"Accept": "text/event-stream"})
        self.asked += 1
        response = connection.getresponse()
        self.opened += 1
        for line in response:
            if line.startswith(b"data: "):
                self.events.append(line.removeprefix(b"data: ").decode().strip())
