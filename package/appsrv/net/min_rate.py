"""The minimum rate of a client: it may pause, but on average it must keep a rate. The caller passes the time.

The pause is a credit of seconds. Waiting uses it up; each byte adds `1 / rate` seconds, up to the length of one pause.
A client that sends or reads nothing runs out of credit, and a client that is slower than the rate does, too. `unsent`
measures the rate of a client that reads, which the kernel's send buffer would otherwise hide.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios


class MinRate:
    """The credit of one client from `now` (monotonic) on. `pause` is in seconds, `rate` in bytes per second.

    A rate of 0 sets no minimum; a pause of 0 gives no credit in advance.
    """

    __slots__ = ("_due", "_pause", "_rate")

    def __init__(self, pause: float, rate: float, now: float) -> None:
        self._pause = pause
        self._rate = rate
        self._due = now + pause

    def progress(self, count: int, now: float) -> None:
        """Add the credit for bytes that the client has sent or read since the last call."""
        if count > 0:
            longest = now + self._pause
            self._due = min(longest, self._due + count / self._rate) if self._rate else longest

    @property
    def terms(self) -> str:
        """The pause and the rate in words."""
        return f"{self._pause:g} s" + (f", with min_data_rate {self._rate:g}" if self._rate else "")

    def extend(self, seconds: float) -> None:
        """Add seconds in which the server did not wait for the client."""
        self._due += seconds

    def left(self, now: float) -> float:
        """The seconds until the client is too slow if it sends or reads nothing; 0.0 if it is too slow now."""
        return max(0.0, self._due - now)


class DeliveredBytes:
    """Counts the bytes that the client's kernel has received: those that were sent, less those in the send buffer.

    The send buffer accepts megabytes at once and then nothing for minutes, even if the client reads steadily.
    """

    __slots__ = ("_seen", "_sent", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sent = 0
        self._seen = -unsent(sock)

    def add_sent(self, count: int) -> None:
        """Count bytes that were written to the socket."""
        self._sent += count

    def new(self) -> int:
        """The bytes delivered since the last call."""
        seen, self._seen = self._seen, self._sent - unsent(self._sock)
        return self._seen - seen


def unsent(sock: socket.socket) -> int:
    """The bytes in the send buffer that the client's kernel has not acknowledged (tcp(7), SIOCOUTQ); 0 if unknown."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
