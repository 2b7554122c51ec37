"""The hand-off socket: the front end sends connections into it, and an idle worker receives the next one.

Here are the constants on which both sides of the ready queue agree: the socket, its number in the shared epoll
instance, and how long a worker waits for either. Knows no connections and no workers.
"""

from __future__ import annotations

import socket
import struct

from appsrv.ipc import channel as channels

HAND_OFF = 0
"""The number of the hand-off socket in the shared epoll instance. Connections have the numbers from 1 on."""
WAIT_MS = 1000
"""The longest time that a worker waits, in milliseconds. The kernel delivers a signal to one thread only, and `poll`
retries after it (PEP 475): a thread that waits checks at this interval whether its worker has to retire."""


def hand_off_pair() -> tuple[socket.socket, socket.socket]:
    """(front end's end, workers' end) of a hand-off socket. A read from the workers' end blocks for at most `WAIT_MS`.
    """
    ours, theirs = channels.pair()
    ours.setblocking(False)
    seconds = struct.pack("@ll", WAIT_MS // 1000, 0)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    return ours, theirs
