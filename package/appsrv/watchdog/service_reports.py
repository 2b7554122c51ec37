"""What the watchdog reports to the service manager: sd_notify(3) messages for the states of the instance.

Knows states and their order; how a message reaches the service manager is known to `service_manager`.
"""

from __future__ import annotations

from appsrv.ipc import messages
from appsrv.system.service_manager import Notifier

PULSE_SECONDS = 1.0
"""How often a server reports its state at least, where a service manager wants to know it."""


class ServiceReports:
    """The reports of one instance. `pulse_seconds` is how often the server is to send a Pulse, 0 for never."""

    def __init__(self, notifier: Notifier, keep_alive_seconds: float) -> None:
        """`keep_alive_seconds`: how often the service manager wants a sign of life; 0: never."""
        self._notifier = notifier
        self._keep_alive_seconds = keep_alive_seconds
        self._reloading = False
        self.pulse_seconds = min(PULSE_SECONDS, keep_alive_seconds or PULSE_SECONDS) if notifier.wanted else 0.0

    def ready(self) -> None:
        """The first worker serves."""
        self._notifier.ready()

    def stopping(self) -> None:
        """The instance stops."""
        self._notifier.stopping()

    def on_pulse(self, msg: messages.Pulse) -> None:
        """The server works. A server that hangs sends no Pulse, so the service manager ends the instance."""
        if self._keep_alive_seconds:
            self._notifier.alive()
        self._notifier.status(msg.text)
        reloading = msg.state == "restarting"
        if reloading and not self._reloading:
            self._notifier.reloading()
        elif self._reloading and not reloading:
            self._notifier.ready()
        self._reloading = reloading
