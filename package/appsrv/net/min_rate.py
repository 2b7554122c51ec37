"""How fast a client has to be: a pause it may make, and a rate it has to keep. No clock of its own.

The pause is credit. Waiting uses it up, each byte earns `1 / rate` seconds of it, never more than one pause: whoever
stands still runs out of it, and whoever dribbles does, too, just as soon. `unsent` is what makes a client's pace known
where the kernel's buffers would hide it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios


class Pace:
    """One client's credit, from `now` (monotonic) on. `pause` in seconds, `rate` in bytes a second; 0: any rate."""

    __slots__ = ("_due", "_pause", "_rate")

    def __init__(self, pause: float, rate: float, now: float) -> None:
        self._pause = pause
        self._rate = rate
        self._due = now + pause

    def moved(self, count: int, now: float) -> None:
        """So many bytes have come, or been taken, since the last time."""
        if count > 0:
            longest = now + self._pause
            self._due = min(longest, self._due + count / self._rate) if self._rate else longest

    @property
    def terms(self) -> str:
        """The pause and the rate in words."""
        return f"{self._pause:g} s" + (f", with min_data_rate {self._rate:g}" if self._rate else "")

    def excuse(self, seconds: float) -> None:
        """So long nobody has waited for the client."""
        self._due += seconds

    def left(self, now: float) -> float:
        """Seconds until the client is too slow, if nothing moves; 0.0 when it is."""
        return max(0.0, self._due - now)


class Taken:
    """What a client has really taken: bytes given to the kernel, less those that the kernel still keeps for it.

    A socket takes megabytes at once and then nothing for minutes, however steadily its client reads.
    """

    __slots__ = ("_given", "_seen", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._given = 0
        self._seen = -unsent(sock)

    def give(self, count: int) -> None:
        """So many bytes were given to the kernel."""
        self._given += count

    def more(self) -> int:
        """Bytes taken since it was last asked."""
        seen, self._seen = self._seen, self._given - unsent(self._sock)
        return self._seen - seen


def unsent(sock: socket.socket) -> int:
    """Bytes that the kernel has not brought to the client yet (tcp(7), SIOCOUTQ); 0 where it does not tell."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
