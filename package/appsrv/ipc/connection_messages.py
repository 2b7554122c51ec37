"""The messages about client connections, between the server and its workers.

One or two of them are sent for each connection, so that most are packed; see `message_format`. A connection is named
by its `cid`, a number that the front end gives it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from appsrv.ipc.directions import HANDED_OFF, SERVER_TO_WORKER, WORKER_TO_BACKEND
from appsrv.ipc.message_format import Message, Packed

# No message of a channel but the only thing written into the release pipe (portable queue), by all workers: the id of a
# connection whose request is answered, and which is to be watched. So short a write is never torn or mixed (pipe(7)).
RELEASED = struct.Struct("<Q")


@dataclass(eq=False, repr=False)
class HandOff(Packed, tag=40, ways=(HANDED_OFF,), layout="QHBQB"):
    """A connection with something to read, for whoever takes it. fds: the connection[, the spooled body].

    `peer` bytes of `data` are the client's address; what follows is what has been read already: nothing, or a
    complete request head, `body` bytes of body (in the second fd when there is one), and what came after it.
    """

    cid: int
    port: int
    listener: int
    body: int
    peer: int
    data: bytes


@dataclass(eq=False, repr=False)
class Lent(Packed, tag=41, ways=(SERVER_TO_WORKER,), layout="QHBB"):
    """The answer to Wanted. fds: the connection. `peer` bytes of `data` are the client's address."""

    cid: int
    port: int
    listener: int
    peer: int
    data: bytes


@dataclass(eq=False, repr=False)
class Gone(Packed, tag=42, ways=(SERVER_TO_WORKER,), layout="Q"):
    """The connection is closed: drop your descriptor of it. Also the answer to Wanted when it is too late."""

    cid: int


@dataclass(eq=False, repr=False)
class Holding(Packed, tag=44, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The worker has parked this connection for the first time and keeps a descriptor of it."""

    cid: int


@dataclass(eq=False, repr=False)
class Readable(Packed, tag=45, ways=(HANDED_OFF,), layout="Q"):
    """A connection that every worker holds has something to read, for whoever takes it (portable queue)."""

    cid: int


@dataclass(eq=False, repr=False)
class Closed(Packed, tag=46, ways=(WORKER_TO_BACKEND,), layout="QBB"):
    """The worker is done with the connection; `linger` asks to read what the client still sends before closing.

    `reset`: the response is not whole, and the client is to see a reset.
    """

    cid: int
    linger: int
    reset: int = 0


@dataclass(eq=False, repr=False)
class ClosedAll(Packed, tag=50, ways=(WORKER_TO_BACKEND,), layout="H"):
    """The worker has ended so many connections in order: `data` is their ids, 8 bytes each."""

    count: int
    data: bytes


@dataclass(eq=False, repr=False)
class Wanted(Packed, tag=47, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The worker got an event for a connection whose descriptor it does not hold."""

    cid: int


@dataclass(eq=False, repr=False)
class GivenBack(Packed, tag=48, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The request is not complete yet: `data` is what has been read. fds: where it is long, a file with it."""

    cid: int
    data: bytes


@dataclass(eq=False, repr=False)
class Undelivered(Packed, tag=49, ways=(WORKER_TO_BACKEND,), layout="QBB"):
    """The client takes the response too slowly: the rest, to be sent by the drain lane.

    `data` is `files` pairs of (offset, length), 16 bytes each, then bytes to send first; fds: the files, in order.
    """

    cid: int
    keep_alive: int
    files: int
    data: bytes


@dataclass(eq=False, repr=False)
class LimitReached(Message, tag=59, ways=(WORKER_TO_BACKEND,)):
    """A limit was reached on this connection, of the setting so called with this value: `what` came of that."""

    cid: int
    setting: str
    value: str
    what: str
