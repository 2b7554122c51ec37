"""The back end of one application group: passes requests to its workers, and handles their messages about connections.

The front end owns every connection and decides which application a request is for. From then on the connection belongs
to that application's back end, until a later request on it is for another application. The back end knows of a worker
only how to write to it. The manager decides how many workers there are.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import gevent

from appsrv.errors import Limit, ProtocolError
from appsrv.http.head import parse_head
from appsrv.http.response import Response, error_response
from appsrv.http.syntax import Limits, RequestHead
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, directions
from appsrv.ipc.channel import Outbox
from appsrv.ipc.dispatcher import Dispatcher, on
from appsrv.ipc.message_format import Message
from appsrv.server.frontend import lanes
from appsrv.server.frontend.fallback import Answer, Fallback
from appsrv.server.frontend.parking import ClientConnection, Clock, Parking, WatchedParking

log = logging.getLogger("appsrv.backend")

INLINE_BODY = 32 * 1024

C = TypeVar(
    "C",
    connection_messages.Holding,
    connection_messages.Closed,
    connection_messages.DescriptorRequested,
    connection_messages.GivenBack,
    connection_messages.LimitReached,
    connection_messages.Undelivered,
)
"""A message about one connection."""


class WorkerDelivery(Protocol):
    """A worker, as far as a back end needs it: how to send it a message and have it read."""

    outbox: Outbox

    def call(self) -> None:
        """Have the worker read its channel soon."""

    def __hash__(self) -> int:
        """A worker equals itself alone."""


class Clients(Protocol):
    """The front end, as far as a back end needs it."""

    connections: dict[int, ClientConnection]

    def in_lane(self, connection: ClientConnection, work: Callable[..., None], *arguments: object) -> None:
        """Run `work` in a greenlet that has the connection for itself."""

    def read_on(self, connection: ClientConnection, data: bytes) -> None:
        """In a lane: read the rest of the request that begins with `data`, and route it."""

    def drain(
        self, connection: ClientConnection, first: bytes, files: list[tuple[int, int, int]], keep_alive: bool
    ) -> None:
        """In a lane: send the rest of a response."""

    def linger(self, connection: ClientConnection) -> None:
        """In a lane: read what the client still sends, then close."""

    def send_fallback(self, connection: ClientConnection, fallback: Fallback, head: RequestHead) -> None:
        """In a lane: send the fallback's response instead of the application's."""

    def refuse(self, connection: ClientConnection, response: Response, seen: bytes = b"") -> None:
        """Send an error response and close."""

    def answer_now(self, connection: ClientConnection, response: Response, seen: bytes) -> None:
        """Send an error response instead of a worker that is stopped. When this returns, the worker can send nothing
        more.
        """

    def close(self, connection: ClientConnection, *, reset: bool = False) -> None:
        """Close the connection, here and in each worker that holds it."""

    def limit_reached(self, connection: ClientConnection, limit: Limit, outcome: str) -> None:
        """Log that a limit ended a request or a connection."""


_ConnectionHandler = Callable[[WorkerDelivery, ClientConnection, C, list[int]], None]


class BackEnd:
    """The back end of one application group. `connections` are those whose last request was for this application."""

    def __init__(
        self, frontend: Clients, parking: Parking, limits: Limits, *,
        admit: Callable[[], Response | None] = lambda: None, busy: Callable[[], set[int]] = set,
        whole_bodies: bool = True, clock: Clock = time.monotonic,
    ) -> None:
        """`admit` is called before a request is passed to the workers. A response that it returns is sent instead.

        `busy` returns the ids of the connections that workers serve. Without `whole_bodies` the slow lane reads only
        heads.
        """
        self.frontend = frontend
        self.parking = parking
        self.connections: dict[int, ClientConnection] = {}
        self.fallback = Fallback()
        self.admit = admit
        self.busy = busy
        self.whole_bodies = whole_bodies
        self._limits = limits
        self._clock = clock
        self._closed = False
        self._workers: set[WorkerDelivery] = set()
        self._dispatcher = self._make_dispatcher()
        parking.connections = self.connections
        if isinstance(parking, WatchedParking):
            parking.gone = frontend.close

    # -- connections --------------------------------------------------------------------------------------------------

    def adopt(self, connection: ClientConnection) -> None:
        """Make the connection this group's: its request is for this application."""
        if connection.backend is self:
            return
        if connection.backend is not None:
            connection.backend.release(connection)
        connection.backend = self
        self.connections[connection.cid] = connection

    def release(self, connection: ClientConnection) -> None:
        """Give the connection up: it becomes another group's, or is about to be closed."""
        self.connections.pop(connection.cid, None)
        self.parking.forget(connection)
        self.parking.board.park(connection.cid, 0.0)
        connection.backend = None

    def park(self, connection: ClientConnection) -> None:
        """Let the connection wait for its next request."""
        self.parking.board.park(connection.cid, self._clock())
        self.parking.park(connection)

    def parked_since(self, connection: ClientConnection) -> float:
        """When the connection began to wait for its next request (monotonic); 0.0 or less when it does not wait."""
        return self.parking.board.parked_since(connection.cid)

    # -- requests -----------------------------------------------------------------------------------------------------

    def push_new(self, connection: ClientConnection) -> None:
        """Pass a connection with unread data to the worker that is free first."""
        self.adopt(connection)
        if self.fallback.active:
            self.frontend.in_lane(connection, self.frontend.read_on, b"")
            return
        refusal = self.admit()
        if refusal is not None:
            self.frontend.refuse(connection, refusal)
            return
        try:
            self.parking.push(connection)
        except OSError as error:
            log.error("a connection is refused: %s", error.strerror)
            self.frontend.refuse(connection, error_response(503))

    def push_request(self, connection: ClientConnection, request: lanes.CompleteRequest) -> None:
        """Pass a complete request to the worker that is free first."""
        self.adopt(connection)
        if self.fallback.active:
            request.body.close()
            self._send_fallback(connection, request.head)
            return
        refusal = self.admit()
        if refusal is not None:
            request.body.close()
            self.frontend.refuse(connection, refusal, request.raw_head)
            return
        length = len(request.body)
        if length <= INLINE_BODY:
            data = request.raw_head + request.body.read_all() + request.rest
            self.parking.push(connection, length, data)
        else:
            fd, _, _ = request.body.into_file()
            self.parking.push(connection, length, request.raw_head + request.rest, fd)
        request.body.close()

    def refuse_waiting(self, most: int, response: Response) -> int:
        """Answer up to `most` requests that no worker has taken with an error; return how many were answered."""
        count = 0
        for item in self.parking.take_back(most):
            item.discard()
            connection = self.connections.get(item.cid)
            if connection is not None:
                count += 1
                self.frontend.refuse(connection, response)
        return count

    def route_again(self) -> None:
        """Route the requests anew that no worker has taken: this application is no longer served."""
        for item in self.parking.take_back():
            connection = self.connections.get(item.cid)
            if connection is not None and item.file is None:
                self.frontend.in_lane(connection, self.frontend.read_on, item.read)
            elif connection is not None:
                self.frontend.refuse(connection, error_response(503, retry_after=1))
            item.discard()

    def close(self) -> None:
        """Close the connections: the application is no longer served, and its workers have ended."""
        for connection in list(self.connections.values()):
            if connection.lane:
                # A lane may be reading a request for another application, or be sending a response that the client is
                # to get in full. The connection only leaves this group.
                self.release(connection)
            else:
                self.frontend.close(connection)
        self._closed = True
        self.parking.close()
        self.parking.board.close()

    # -- in the application's place -----------------------------------------------------------------------------------

    def fall_back(self, answer: Answer) -> None:
        """From now on answer every request with `answer`, also those that wait already."""
        self.fallback.begin(answer)
        self.answer_waiting()

    def answer_waiting(self) -> None:
        """Answer the requests that no worker has taken with the fallback."""
        for item in self.parking.take_back(1 << 16):
            item.discard()
            connection = self.connections.get(item.cid)
            found = parse_head(item.read, self._limits) if item.read else None
            if connection is not None and found is not None:
                self._send_fallback(connection, found[0])
            elif connection is not None:
                self.frontend.in_lane(connection, self.frontend.read_on, b"")

    def _send_fallback(self, connection: ClientConnection, head: RequestHead) -> None:
        self.frontend.in_lane(connection, self.frontend.send_fallback, self.fallback, head)

    # -- workers ------------------------------------------------------------------------------------------------------

    def worker_joined(self, worker: WorkerDelivery) -> None:
        """A worker takes connections from now on."""
        self._workers.add(worker)
        self.parking.workers = len(self._workers)

    def worker_gone(self, worker: WorkerDelivery, served: Iterable[tuple[int, bool, str]], error_id: str) -> None:
        """A worker has died.

        `served`: of each connection in its cells, the id, whether a response had begun, and the request line.
        """
        self._workers.discard(worker)
        self.parking.workers = len(self._workers)
        self.parking.worker_died()
        for cid, begun, line in served:
            connection = self.connections.get(cid)
            if connection is None or connection.lane:
                # The worker had passed this connection to a lane just before it died, and its cell still names it. The
                # lane goes on with the socket, so it must not be closed here.
                continue
            if begun:
                self.frontend.close(connection, reset=True)
            else:
                self.frontend.refuse(connection, error_response(502, error_id=error_id), line.encode())
        for connection in self.frontend.connections.values():
            _remove_holder(connection, worker)

    def recover_lost(self) -> None:
        """After the death of a worker: find connections that it had taken without a trace, and pass them on again."""
        gevent.spawn(self._recover_lost)

    def _recover_lost(self) -> None:
        # A worker names a connection in its cell a moment after it has taken it. Only a connection that is found
        # nowhere twice, half a second apart, is lost. This goes on for five seconds, because nothing counts as lost as
        # long as requests wait in the hand-off socket.
        suspects: set[int] = set()
        for _ in range(10):
            if self._closed:
                return
            lost = self.parking.lost(self.connections, self.busy())
            for connection in lost:
                if connection.cid in suspects:
                    self.parking.recover(connection)
            suspects = {connection.cid for connection in lost} - suspects
            gevent.sleep(0.5)

    # -- what workers say ---------------------------------------------------------------------------------------------

    def handle_message(self, worker: WorkerDelivery, msg: Message, fds: list[int]) -> None:
        """Handle a worker's message about a connection. `fds` are closed afterwards."""
        try:
            self._dispatcher.handle_message(msg, worker, fds)
        finally:
            channels.close_all(fds)

    def give_up(self, msg: Message) -> None:
        """Close the connection of a message whose descriptors were lost: without them it cannot go on."""
        connection = self.frontend.connections.get(getattr(msg, "cid", 0))
        if connection is not None:
            log.error("out of descriptors: a connection is given up")
            self.frontend.close(connection, reset=True)

    def _make_dispatcher(self) -> Dispatcher[[WorkerDelivery, list[int]]]:
        return Dispatcher(
            directions.WORKER_TO_BACKEND,
            on(connection_messages.Holding, self._with_connection(self._on_holding)),
            on(connection_messages.Closed, self._with_connection(self._on_closed)),
            on(connection_messages.ClosedAll, self._on_closed_all),
            on(connection_messages.DescriptorRequested, self._with_connection(self._on_descriptor_requested)),
            on(connection_messages.GivenBack, self._with_connection(self._on_given_back)),
            on(connection_messages.LimitReached, self._with_connection(self._on_limit_reached)),
            on(connection_messages.Undelivered, self._with_connection(self._on_undelivered)),
        )

    def _with_connection(self, handler: _ConnectionHandler[C]) -> Callable[[C, WorkerDelivery, list[int]], None]:
        """Call `handler` with the connection of the message, unless the connection has ended."""
        connections = self.frontend.connections

        def handle(msg: C, worker: WorkerDelivery, fds: list[int]) -> None:
            connection = connections.get(msg.cid)
            if connection is None:
                _send_gone(msg, worker)
                return
            try:
                handler(worker, connection, msg, fds)
            except OSError as error:
                log.error("a connection is given up: %s", error.strerror)
                self.frontend.close(connection, reset=True)

        return handle

    def _on_holding(
        self, worker: WorkerDelivery, connection: ClientConnection, _msg: connection_messages.Holding, _fds: object
    ) -> None:
        if connection.holders is None:
            connection.holders = set()
        connection.holders.add(worker)

    def _on_closed(
        self, worker: WorkerDelivery, connection: ClientConnection, msg: connection_messages.Closed, _fds: object
    ) -> None:
        _remove_holder(connection, worker)
        if msg.linger:
            self.frontend.in_lane(connection, self.frontend.linger)
        else:
            self.frontend.close(connection, reset=bool(msg.reset))

    def _on_closed_all(self, msg: connection_messages.ClosedAll, worker: WorkerDelivery, _fds: object) -> None:
        for (cid,) in struct.iter_unpack("<Q", msg.data):
            connection = self.frontend.connections.get(cid)
            if connection is not None:
                _remove_holder(connection, worker)
                self.frontend.close(connection)

    def _on_descriptor_requested(
        self, worker: WorkerDelivery, connection: ClientConnection, _msg: connection_messages.DescriptorRequested,
        _fds: object,
    ) -> None:
        peer = connection.address.encode()
        sent = connection_messages.DescriptorSent(connection.cid, connection.port, connection.listener, len(peer), peer)
        worker.outbox.send(sent, [connection.sock.fileno()])

    def _on_limit_reached(
        self, _worker: WorkerDelivery, connection: ClientConnection, msg: connection_messages.LimitReached, _fds: object
    ) -> None:
        self.frontend.limit_reached(connection, Limit(msg.setting, msg.value), msg.what)

    def _on_given_back(
        self, worker: WorkerDelivery, connection: ClientConnection, msg: connection_messages.GivenBack, fds: list[int]
    ) -> None:
        _remove_holder(connection, worker)
        data = _whole_file(fds[0]) if fds else msg.data
        self.frontend.in_lane(connection, self.frontend.read_on, data)

    def _on_undelivered(
        self, worker: WorkerDelivery, connection: ClientConnection, msg: connection_messages.Undelivered, fds: list[int]
    ) -> None:
        if len(fds) != msg.files:
            raise ProtocolError(f"an Undelivered of {msg.files} files came with {len(fds)} descriptors")
        _remove_holder(connection, worker)
        places = struct.unpack_from(f"<{2 * msg.files}Q", msg.data)
        files = [(os.dup(fd), places[2 * n], places[2 * n + 1]) for n, fd in enumerate(fds)]
        first = msg.data[connection_messages.PLACE_BYTES * msg.files :]
        self.frontend.in_lane(connection, self.frontend.drain, first, files, bool(msg.keep_alive))


def _send_gone(msg: Message, worker: WorkerDelivery) -> None:
    """Tell a worker that its connection has ended, where it holds a descriptor of it or waits for one."""
    # A Holding can also arrive after the end: the worker sends it when it parks the connection, and another worker may
    # have taken, served and closed the connection before the server reads the message.
    if isinstance(msg, connection_messages.DescriptorRequested | connection_messages.Holding):
        worker.outbox.send(connection_messages.Gone(msg.cid))
        worker.call()


def _remove_holder(connection: ClientConnection, worker: WorkerDelivery) -> None:
    if connection.holders is not None:
        connection.holders.discard(worker)


def _whole_file(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
