"""The protocol of a service manager (systemd): sd_listen_fds(3) and sd_notify(3). Knows no instance."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

# Variables for the process that the service manager has started; its children must not inherit them.
SERVICE_VARIABLES = frozenset(
    {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
)
_FIRST_FD = 3


def passed_sockets(environ: Mapping[str, str], pid: int) -> list[int]:
    """The listening descriptors that the service manager has opened for the process `pid` (LISTEN_FDS)."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = environ.get("LISTEN_FDS", "")
    return list(range(_FIRST_FD, _FIRST_FD + int(count))) if count.isdigit() else []


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float:
    """The interval in seconds at which to send WATCHDOG=1: half of the manager's timeout (sd_watchdog_enabled(3)).

    0: never.
    """
    period = environ.get("WATCHDOG_USEC", "")
    if not period.isdigit() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(period) / 2e6


class Notifier:
    """Sends notifications to the service manager. Does nothing if there is none.

    The socket of a busy manager may be full (unix(7)). Notifications about the state of the service are then kept, and
    sent in order before the next one; other notifications are dropped.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract address (unix(7)).
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._status = ""
        self._unsent: list[str] = []

    @property
    def wanted(self) -> bool:
        """Whether there is a service manager that accepts notifications."""
        return bool(self._address)

    def ready(self) -> None:
        """The first worker serves, or a restart has ended (READY=1)."""
        self._send_state("READY=1")

    def reloading(self) -> None:
        """A restart has begun (RELOADING=1); `ready` ends it."""
        self._send_state(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service accepts no more connections and ends (STOPPING=1)."""
        self._send_state("STOPPING=1")

    def alive(self) -> None:
        """The server process responds (WATCHDOG=1)."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Send the status line for people (STATUS=), if it has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def _send_state(self, text: str) -> None:
        self._unsent.append(text)
        self._send_unsent()

    def _send(self, text: str) -> None:
        if self._send_unsent():
            self._try_send(text)

    def _send_unsent(self) -> bool:
        """Send the kept notifications in order. Returns whether none is left."""
        while self._unsent and self._try_send(self._unsent[0]):
            del self._unsent[0]
        return not self._unsent

    def _try_send(self, text: str) -> bool:
        """Send a notification. Returns False if the socket is full. If the manager has ended, it is dropped."""
        if not self._address:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                # Non-blocking: a busy manager must not block the watchdog.
                sock.setblocking(False)
                sock.sendto(text.encode("utf-8", "replace"), self._address)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
