"""The front end: accepts connections, routes their requests, reads and sends in place of workers, closes connections.

It owns every client's connection from accept to close. What an application's workers do with a connection is known to
the group's `BackEnd`, and the application that a request is for to `route`. No other module accepts clients.
"""

from __future__ import annotations

import dataclasses
import heapq
import logging
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent

from appsrv.errors import ClientDisconnected, Limit, RequestError
from appsrv.http.connection_limits import ConnectionLimits
from appsrv.http.head import parse_head
from appsrv.http.response import Response, error_response, serialize
from appsrv.http.syntax import Limits, RequestHead
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages
from appsrv.logs.limit_log import LimitLog, outcome_of
from appsrv.net.tcp_reset import reset_now
from appsrv.server.frontend import lanes
from appsrv.server.frontend.acceptor import Acceptor, too_many_connections_page
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.frontend.fallback import Fallback
from appsrv.server.frontend.parking import ClientConnection, Clock
from appsrv.system.readiness import has_input
from appsrv.system.spool import Spool

log = logging.getLogger("appsrv.frontend")

SWEEP_SECONDS = 5.0
MOST_READING_PREAMBLE = 1000
LOGGED_BYTES = 2048
UNLIMITED_SECONDS = 1e9

Preamble = Callable[[ClientConnection], None]
LogRefused = Callable[[str, bytes, Response], None]
Route = Callable[[RequestHead], BackEnd | None]


class FrontEnd:
    """All connections of an instance.

    `backends`: those of the applications that are served. `only`: the one that all requests are for; where there may be
    several, it is None and `route` is called with each head that is read here. `unserved` makes the response to a
    request that is for no application. `preambles`, by number of listener, read what comes before the first request of
    a connection. At most MOST_READING_PREAMBLE connections do so at a time: beyond that the oldest one is closed, so
    that silent clients cannot keep others out. `answered` counts by status the responses that the front end itself has
    sent.
    """

    def __init__(
        self, limits: Limits, timeouts: lanes.Timeouts, keepalive_timeout: float,
        new_spool: Callable[[], Spool] = lanes.default_spool, connection_limits: ConnectionLimits | None = None,
        *, development: bool = False, clock: Clock = time.monotonic,
    ) -> None:
        self.connections: dict[int, ClientConnection] = {}
        self.backends: list[BackEnd] = []
        self.only: BackEnd | None = None
        self.route: Route = lambda _: None
        self.unserved: Callable[[RequestHead], Response] = not_served
        self.accepted = 0
        self.answered: Counter[int] = Counter()
        self.limits = connection_limits or ConnectionLimits(sys.maxsize, 0, TrustedProxies(()))
        self.acceptor = Acceptor(self.limits, self, clock)
        self.preambles: dict[int, Preamble] = {}
        self._reading_preamble: dict[int, Any] = {}
        self.log_refused: LogRefused | None = None
        self._development = development
        self._clock = clock
        self._limit_log = LimitLog()
        self._limits = limits
        self._timeouts = timeouts
        # Behind TLS only the relay knows what the client has taken. The relay closes connections of clients that are
        # too slow.
        self._timeouts_of_relayed = dataclasses.replace(timeouts, drain=UNLIMITED_SECONDS, rate=0.0)
        # Without keep-alive the only idle connections are those without a first request.
        self._idle_timeout = keepalive_timeout or timeouts.header
        self._new_spool = new_spool

    def busy(self) -> set[int]:
        """The ids of the connections that workers serve."""
        return {cid for backend in self.backends for cid in backend.busy()}

    # -- accepting ----------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """How many connections are open."""
        return len(self.connections)

    def stop_accepting(self) -> None:
        """Accept no further connection."""
        self.acceptor.stop()

    def in_lanes(self) -> bool:
        """Whether a greenlet of the front end works on any connection."""
        return any(connection.lane for connection in self.connections.values())

    def add(self, client: socket.socket, address: str, port: int, listener: int) -> None:
        """Take over a new connection, and pass it to the worker that is free first."""
        self.accepted += 1
        connection = ClientConnection(self.accepted, client, address, port, listener)
        self.connections[self.accepted] = connection
        preamble = self.preambles.get(listener)
        if preamble is None:
            self.limits.opened(connection.cid, address)
            self._push_new(connection)
        else:
            self.in_lane(connection, self._read_preamble, preamble)

    def _push_new(self, connection: ClientConnection) -> None:
        if self.only is not None:
            self.only.push_new(connection)
            return
        seen = _unread(connection.sock, self._limits.header_block)
        try:
            found = parse_head(seen, self._limits) if seen else None
        except RequestError as error:
            self._refuse_request(connection, error, seen)
            return
        if found is None:
            # The slow lane reads the rest of the head, and the request is routed then.
            self.in_lane(connection, self.read_on, b"")
            return
        backend = self.route(found[0])
        if backend is None:
            self.refuse(connection, self.unserved(found[0]), seen)
        else:
            backend.push_new(connection)

    def _read_preamble(self, connection: ClientConnection, preamble: Preamble) -> None:
        if len(self._reading_preamble) >= MOST_READING_PREAMBLE:
            self._reading_preamble.pop(next(iter(self._reading_preamble))).kill(block=False)
        self._reading_preamble[connection.cid] = gevent.getcurrent()
        try:
            preamble(connection)
        except RequestError as error:
            self._refuse_request(connection, error)
            return
        finally:
            self._reading_preamble.pop(connection.cid, None)
        # The limit per address is checked here: with PROXY protocol the client's address is known only now.
        if self.limits.has_too_many(connection.address) and not self.make_room_of(connection.address):
            page = too_many_connections_page()
            self._note(connection, page, b"")
            self._refuse(connection, serialize(page, keep_alive=False, head=None))
            return
        self.limits.opened(connection.cid, connection.address)
        connection.lane = False
        if has_input(connection.sock.fileno()):
            self._push_new(connection)
        elif self.only is not None:
            self.only.adopt(connection)
            self.only.park(connection)
        else:
            self.in_lane(connection, self.read_on, b"")

    # -- lanes --------------------------------------------------------------------------------------------------------

    def in_lane(self, connection: ClientConnection, work: Callable[..., None], *arguments: object) -> None:
        """Run `work` in a greenlet that has the connection for itself."""
        connection.lane = True
        gevent.spawn(self._run_lane, connection, work, *arguments)

    def _run_lane(self, connection: ClientConnection, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(connection, *arguments)
        except ClientDisconnected as error:
            self.report_limit(connection, error)
            self.close(connection)
        except gevent.GreenletExit:
            self.close(connection)
        except OSError as error:
            log.error("a connection is given up: %s", error.strerror)
            self.close(connection, reset=True)
        except Exception:
            log.exception("a lane of the front end failed")
            self.close(connection, reset=True)

    def read_on(self, connection: ClientConnection, data: bytes) -> None:
        """In a lane: read the rest of the request that begins with `data`, and pass it on."""
        try:
            request = lanes.read_request(
                connection.sock, data, self._limits, self._timeouts, self._new_spool,
                self._wants_whole_bodies,
            )
        except RequestError as error:
            self._answer_error(connection, error, data)
            return
        connection.lane = False
        self._push_request(connection, request)

    def _wants_whole_bodies(self, head: RequestHead) -> bool:
        backend = self.only or self.route(head)
        return backend is None or backend.whole_bodies

    def _answer_error(self, connection: ClientConnection, error: RequestError, data: bytes) -> None:
        if error.status == 408 and not data.strip(b"\r\n"):
            self.close(connection)
            return
        if error.status >= 500:
            log.error("%s", error.reason)
        self._refuse_request(connection, error, error.seen or data)

    def _push_request(self, connection: ClientConnection, request: lanes.CompleteRequest) -> None:
        backend = self.only or self.route(request.head)
        if backend is None:
            request.body.close()
            self.refuse(connection, self.unserved(request.head), request.raw_head)
        else:
            backend.push_request(connection, request)

    def drain(
        self, connection: ClientConnection, first: bytes, files: list[tuple[int, int, int]], keep_alive: bool
    ) -> None:
        """In a lane: send the rest of a response."""
        timeouts = self._timeouts if connection.cut is None else self._timeouts_of_relayed
        try:
            lanes.send_all(connection.sock, first, timeouts)
            lanes.send_files(connection.sock, files, timeouts)
        except ClientDisconnected as error:
            self.report_limit(connection, error)
            # A reset: after an orderly end, a client that stalled could take a part of the response for the whole.
            self.close(connection, reset=True)
            return
        finally:
            channels.close_all([fd for fd, _, _ in files])
        connection.lane = False
        if keep_alive and connection.backend is not None:
            connection.backend.park(connection)
        else:
            connection.lane = True
            self.linger(connection)

    def send_fallback(self, connection: ClientConnection, fallback: Fallback, head: RequestHead) -> None:
        """In a lane: send the fallback's response instead of the application's."""
        response = fallback.respond(head.variables)
        self._note(connection, response, head.raw)
        lanes.send_all(connection.sock, serialize(response, keep_alive=False, head=head), self._timeouts)
        self.linger(connection)

    def linger(self, connection: ClientConnection) -> None:
        """In a lane: read what the client still sends, then close."""
        lanes.linger(connection.sock)
        self.close(connection)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def refuse(self, connection: ClientConnection, response: Response, seen: bytes = b"") -> None:
        """Send an error response and close. `seen`: what has been read of the request, for the access log."""
        self._note(connection, response, seen)
        self.in_lane(connection, self._refuse, serialize(response, keep_alive=False, head=None))

    def _refuse_request(self, connection: ClientConnection, error: RequestError, seen: bytes = b"") -> None:
        self.report_limit(connection, error)
        detail = error.detail(development=self._development)
        self.refuse(connection, error_response(error.status, detail=detail), seen)

    def report_limit(self, connection: ClientConnection, error: RequestError | ClientDisconnected) -> None:
        """Log the limit that ended the connection or its request, if it was one."""
        if error.limit is not None:
            self.limit_reached(connection, error.limit, outcome_of(error))

    def limit_reached(self, connection: ClientConnection, limit: Limit, outcome: str) -> None:
        """Log that a limit ended a request or a connection, with the name of its setting and once a minute."""
        line = self._limit_log.count(limit, outcome, connection.address, self._clock())
        if line is not None:
            log.warning(line)

    def _refuse(self, connection: ClientConnection, data: bytes) -> None:
        lanes.send_all(connection.sock, data, self._timeouts)
        self.linger(connection)

    def _note(self, connection: ClientConnection, response: Response, seen: bytes) -> None:
        if response.unlogged:
            return
        self.answered[response.status] += 1
        if self.log_refused is not None:
            self.log_refused(connection.address, seen or _unread(connection.sock), response)

    def note_refused(self, address: str, seen: bytes, response: Response) -> None:
        """Write a request that was answered without a worker to the access log, if there is one."""
        if self.log_refused is not None:
            self.log_refused(address, seen, response)

    def answer_now(self, connection: ClientConnection, response: Response, seen: bytes) -> None:
        """Send an error response instead of a worker that is stopped. When this returns, the worker can send nothing
        more.
        """
        self._note(connection, response, seen)
        data = serialize(response, keep_alive=False, head=None)
        try:
            connection.sock.send(data)
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(connection, reset=True)
            return
        self.in_lane(connection, self.linger)

    def close(self, connection: ClientConnection, *, reset: bool = False) -> None:
        """Close the connection, here and in each worker that holds it."""
        if self.connections.pop(connection.cid, None) is None:
            return
        self.limits.closed(connection.cid)
        if connection.backend is not None:
            connection.backend.release(connection)
        if reset and connection.cut is not None:
            connection.cut()
        elif reset:
            reset_now(connection.sock)
        elif connection.holders:
            _end_of_sending(connection.sock)
        # A worker closes its descriptor when it has read the message. Until then the kernel keeps the connection open,
        # unless it was shut down or reset above.
        for worker in connection.holders or ():
            worker.outbox.send(connection_messages.Gone(connection.cid))
            worker.call()
        connection.sock.close()

    def sweep(self) -> None:
        """Close the connections that have been idle for longer than `keepalive_timeout`."""
        oldest, busy = self._clock() - self._idle_timeout, self.busy()
        for connection in list(self.connections.values()):
            since = _parked_since(connection)
            if 0.0 < since < oldest and not connection.lane and connection.cid not in busy:
                _end_of_sending(connection.sock)
                self.close(connection)

    def close_longest_idle(self, most: int, among: Callable[[str], bool] | None = None) -> int:
        """Close up to `most` idle connections, if `among` is true for their addresses; return how many were closed."""
        parked = [
            (_parked_since(connection), connection.cid, connection) for connection in self.connections.values()
            if not connection.lane and _is_parked(connection) and (among is None or among(connection.address))
        ]
        quiet = [
            connection for _, _, connection in heapq.nsmallest(most, parked) if not has_input(connection.sock.fileno())
        ]
        # Only now, after the check whether they are readable: a connection that a worker has taken in between is no
        # longer readable, and is named in the worker's cell.
        busy = self.busy()
        idle = [connection for connection in quiet if connection.cid not in busy]
        for connection in idle:
            _end_of_sending(connection.sock)
            self.close(connection)
        return len(idle)

    def make_room_of(self, address: str) -> bool:
        """Close the longest idle connection of an address that has too many; False when none of its connections is
        idle.
        """
        if self.close_longest_idle(1, lambda other: self.limits.same_client(address, other)):
            return True
        line = self.limits.count_refused(address, self._clock())
        if line is not None:
            log.warning(line)
        return False

    def close_idle(self, backend: BackEnd | None = None) -> None:
        """Close the connections that are idle: of all applications when the server stops, or of one that is no longer
        served.
        """
        if backend is None:
            for reading in self._reading_preamble.values():
                reading.kill(block=False)
        busy = self.busy()
        for connection in list((self if backend is None else backend).connections.values()):
            if connection.lane or connection.cid in busy or not _is_parked(connection):
                continue
            if not has_input(connection.sock.fileno()):
                _end_of_sending(connection.sock)
                self.close(connection)


def not_served(head: RequestHead) -> Response:
    """The response 404: no application is served at this host and path."""
    host = head.variables.get("HTTP_HOST", "")
    return error_response(404, detail=f"No application is served at {host or 'an unnamed host'} under this path.")


def _parked_since(connection: ClientConnection) -> float:
    return connection.backend.parked_since(connection) if connection.backend is not None else 0.0


def _is_parked(connection: ClientConnection) -> bool:
    return _parked_since(connection) > 0.0


def _end_of_sending(sock: socket.socket) -> None:
    # Workers hold descriptors of the same socket, so that close(2) here would not end the connection. shutdown(2) does
    # at once.
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _unread(sock: socket.socket, most: int = LOGGED_BYTES) -> bytes:
    """The beginning of what has arrived, without reading it."""
    try:
        return sock.recv(most, socket.MSG_PEEK)
    except (OSError, ValueError):
        return b""
