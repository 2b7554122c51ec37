"""The hand-off socket: the front end writes connections into it, each worker that has time reads the next one.

Both sides of the ready queue agree here on the socket, its number in the epoll instance that they share, and how long
a worker waits on either. Knows no connections and no workers.
"""

from __future__ import annotations

import socket
import struct

from appsrv.ipc import channel as channels

HAND_OFF = 0
"""The number of the hand-off socket in the shared epoll instance. Connections have numbers from 1 on."""
WAIT_MS = 1000
"""How long a worker waits at most. A signal to retire interrupts the wait of the main thread only (PEP 475 in `poll`;
the kernel delivers it to one thread), so that another thread learns of it after this time."""


def hand_off_pair() -> tuple[socket.socket, socket.socket]:
    """(front end's end, workers' end) of a hand-off socket. Reading blocks for `WAIT_MS` at the most."""
    ours, theirs = channels.pair()
    ours.setblocking(False)
    seconds = struct.pack("@ll", WAIT_MS // 1000, 0)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    return ours, theirs
