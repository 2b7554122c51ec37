"""The messages about client connections, between the server and its workers.

One or two of them are sent for each connection, so that most are packed; see `message_format`. A connection is named
by its `cid`, a number that the front end gives it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appsrv.ipc.directions import HANDED_OFF, SERVER_TO_WORKER, WORKER_TO_BACKEND
from appsrv.ipc.message_format import Message, Packed

if TYPE_CHECKING:
    from typing_extensions import Self

# No message of a channel but the only thing written into the release pipe (portable queue), by all workers: the id of a
# connection whose request is answered, and which is to be watched. So short a write is never torn or mixed (pipe(7)).
RELEASED = struct.Struct("<Q")

CID_BYTES, PLACE_BYTES = 8, 16
"""The lengths of the items of ClosedAll and Undelivered."""


@dataclass(eq=False, repr=False)
class HandOff(Packed, tag=40, ways=(HANDED_OFF,), layout="QHBQB"):
    """A connection with something to read, for the first worker that takes it. fds: its socket, and the spooled body.

    The first `peer` bytes of `data` are the client's address. The rest is what the front end has read: nothing, or a
    complete request head, `body` bytes of body (in the second fd, if there is one), and what came after it.
    """

    cid: int
    port: int
    listener: int
    body: int
    peer: int
    data: bytes


@dataclass(eq=False, repr=False)
class DescriptorSent(Packed, tag=41, ways=(SERVER_TO_WORKER,), layout="QHBB"):
    """The answer to DescriptorRequested. fds: the connection. `data` is the client's address, of `peer` bytes."""

    cid: int
    port: int
    listener: int
    peer: int
    data: bytes


@dataclass(eq=False, repr=False)
class Gone(Packed, tag=42, ways=(SERVER_TO_WORKER,), layout="Q"):
    """The connection is closed: close your descriptor. Also an answer to DescriptorRequested (too late)."""

    cid: int


@dataclass(eq=False, repr=False)
class Holding(Packed, tag=44, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The worker has parked this connection for the first time and keeps a descriptor of it."""

    cid: int


@dataclass(eq=False, repr=False)
class Readable(Packed, tag=45, ways=(HANDED_OFF,), layout="Q"):
    """A connection of which every worker has a descriptor has something to read (portable queue)."""

    cid: int


@dataclass(eq=False, repr=False)
class Closed(Packed, tag=46, ways=(WORKER_TO_BACKEND,), layout="QBB"):
    """The worker is done with the connection.

    With `linger`, the client may still send: read that before closing. With `reset`, the response is incomplete, and
    the client has to see a reset.
    """

    cid: int
    linger: int
    reset: int = 0


@dataclass(eq=False, repr=False)
class ClosedAll(Packed, tag=50, ways=(WORKER_TO_BACKEND,), layout="H"):
    """The worker has closed `count` connections in order. `data` is their ids, 8 bytes each."""

    count: int
    data: bytes

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        msg = super().unpack(datagram)
        if len(msg.data) != CID_BYTES * msg.count:
            raise ValueError(f"{msg.count} ids are not {len(msg.data)} bytes long")
        return msg


@dataclass(eq=False, repr=False)
class DescriptorRequested(Packed, tag=47, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The worker got an event for a connection of which it has no descriptor. The answer is DescriptorSent or Gone."""

    cid: int


@dataclass(eq=False, repr=False)
class GivenBack(Packed, tag=48, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The request is incomplete: read the rest. `data` is what has been read; fds: a file with it where it is long."""

    cid: int
    data: bytes


@dataclass(eq=False, repr=False)
class Undelivered(Packed, tag=49, ways=(WORKER_TO_BACKEND,), layout="QBB"):
    """The client reads the response too slowly: send the rest. fds: the files that it is in, if any.

    `data` is a pair (offset, length) for each of the `files`, 16 bytes a pair, then bytes to send before the files.
    """

    cid: int
    keep_alive: int
    files: int
    data: bytes

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        msg = super().unpack(datagram)
        if len(msg.data) < PLACE_BYTES * msg.files:
            raise ValueError(f"{len(msg.data)} bytes are too few for the places of {msg.files} files")
        return msg


@dataclass(eq=False, repr=False)
class LimitReached(Message, tag=59, ways=(WORKER_TO_BACKEND,)):
    """The connection has reached the limit of this setting, which has this value; `what` is the consequence."""

    cid: int
    setting: str
    value: str
    what: str
