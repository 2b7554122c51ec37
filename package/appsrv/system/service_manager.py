"""What a service manager tells a service and wants to hear: sd_listen_fds(3), sd_notify(3). Knows no instance."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

# Meant for the process that was started, not for what it starts.
SERVICE_VARIABLES = frozenset(
    {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
)
_FIRST_FD = 3


def passed_sockets(environ: Mapping[str, str], pid: int) -> list[int]:
    """The listening descriptors that were opened for the process `pid`; empty when there are none."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = environ.get("LISTEN_FDS", "")
    return list(range(_FIRST_FD, _FIRST_FD + int(count))) if count.isdigit() else []


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float:
    """How often, in seconds, the manager wants a sign of life: half of what it waits for; 0 means never."""
    period = environ.get("WATCHDOG_USEC", "")
    if not period.isdigit() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(period) / 2e6


class Notifier:
    """Tells the service manager. Without one, tells nobody.

    The state of the service is said until it is heard: what a manager that is busy has no room for (unix(7)) is said
    again before the next word.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract address (unix(7)).
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._said = ""
        self._unheard: list[str] = []

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def ready(self) -> None:
        """The first worker serves, or a restart is over."""
        self._say_state("READY=1")

    def reloading(self) -> None:
        """A restart has begun; `ready` tells its end."""
        self._say_state(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Nothing is accepted any more."""
        self._say_state("STOPPING=1")

    def alive(self) -> None:
        """Everything that serves answers."""
        self._say("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for people."""
        if text != self._said:
            self._said = text
            self._say(f"STATUS={text}")

    def _say_state(self, text: str) -> None:
        self._unheard.append(text)
        self._catch_up()

    def _say(self, text: str) -> None:
        if self._catch_up():
            self._is_heard(text)

    def _catch_up(self) -> bool:
        """Say what was not heard, in its order; whether all of it is by now."""
        while self._unheard and self._is_heard(self._unheard[0]):
            del self._unheard[0]
        return not self._unheard

    def _is_heard(self, text: str) -> bool:
        """Say it; False when there is no room for it at present. A manager that has gone hears nothing ever."""
        if not self._address:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                # A busy one must not keep the service from serving.
                sock.setblocking(False)
                sock.sendto(text.encode("utf-8", "replace"), self._address)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
