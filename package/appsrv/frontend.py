"""The front end: accepts connections, hands those with something to read to workers, takes back what they cannot do.

Owns every client's connection for its whole life. Knows workers as numbers with a channel; how many there should be is
the manager's business. The only place that accepts clients.
"""

from __future__ import annotations

import dataclasses
import heapq
import logging
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import gevent

from appsrv import channel as channels
from appsrv import lanes, message
from appsrv.acceptor import Acceptor, crowded_page
from appsrv.channel import Outbox
from appsrv.connection_limits import ConnectionLimits
from appsrv.errors import ClientDisconnected, RequestError
from appsrv.fallback import Answer, Fallback
from appsrv.http1 import parse_head
from appsrv.http_response import Response, error_response, serialize
from appsrv.http_syntax import Limits, RequestHead
from appsrv.parking import ClientConnection, Parking, WatchedParking, readable
from appsrv.spool import Spool
from appsrv.tcp_reset import reset_now
from appsrv.trusted_proxies import TrustedProxies

log = logging.getLogger("appsrv.frontend")

SWEEP = 5.0
INLINE_BODY = 32 * 1024
ARRIVING = 1000
SHOWN = 2048
FOREVER = 1e9

Arrival = Callable[[ClientConnection], None]
LogRefused = Callable[[str, bytes, Response], None]


class Post(Protocol):
    """What the front end knows of a worker: how to write to it, and how to make it look."""

    outbox: Outbox

    def call(self) -> None:
        """Make the worker read its channel soon."""


class FrontEnd:
    """All connections of one application group.

    `admit` is asked before a request is handed over; what it returns, if anything, is answered instead. `arrivals` are
    called, by number of listener, with what is new there, and read what comes before the first request. Of more than
    ARRIVING such at a time, the oldest ones are closed: nobody keeps others out by keeping silent.
    `busy` tells the connections that workers are serving; `answered` counts by status what is answered here.
    """

    def __init__(
        self, parking: Parking, limits: Limits, timeouts: lanes.Timeouts, keepalive_timeout: float,
        admit: Callable[[], Response | None], new_spool: Callable[[], Spool] = lanes.default_spool,
        connection_limits: ConnectionLimits | None = None,
    ) -> None:
        self.parking = parking
        self.connections: dict[int, ClientConnection] = {}
        self.accepted = 0
        self.answered: Counter[int] = Counter()
        self.limits = connection_limits or ConnectionLimits(sys.maxsize, 0, TrustedProxies(()))
        self.acceptor = Acceptor(self.limits, self)
        self.busy: Callable[[], set[int]] = set
        self.fallback = Fallback()
        self.arrivals: dict[int, Arrival] = {}
        self._arriving: dict[int, Any] = {}
        self.log_refused: LogRefused | None = None
        self._limits = limits
        self._timeouts = timeouts
        # Behind TLS only the relay sees what a client takes; it ends those that are too slow.
        self._relayed = dataclasses.replace(timeouts, drain=FOREVER, rate=0.0)
        # Without keep-alive only those wait that have not asked anything yet.
        self._idle_timeout = keepalive_timeout or timeouts.header
        self._admit = admit
        self._new_spool = new_spool
        self._posts: dict[int, Post] = {}
        self._handlers = self._message_handlers()
        parking.connections = self.connections
        if isinstance(parking, WatchedParking):
            parking.gone = self.close

    # -- accepting ----------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Connections there are."""
        return len(self.connections)

    def welcome(self, client: socket.socket, address: str, port: int, listener: int) -> None:
        """A new connection: whichever worker is free first looks what it wants."""
        self.accepted += 1
        connection = ClientConnection(self.accepted, client, address, port, listener)
        self.connections[self.accepted] = connection
        arrival = self.arrivals.get(listener)
        if arrival is None:
            self.limits.came(connection.cid, address)
            self._push_new(connection)
        else:
            self._in_lane(connection, self._arrive, arrival)

    def _push_new(self, connection: ClientConnection) -> None:
        if self.fallback.active:
            self._in_lane(connection, self._read_on, b"")
            return
        refusal = self._admit()
        if refusal is not None:
            self.refuse(connection, refusal)
            return
        try:
            self.parking.push(connection)
        except OSError as error:
            log.error("a connection is refused: %s", error.strerror)
            self.refuse(connection, error_response(503))

    def _arrive(self, connection: ClientConnection, arrival: Arrival) -> None:
        if len(self._arriving) >= ARRIVING:
            self._arriving.pop(next(iter(self._arriving))).kill(block=False)
        self._arriving[connection.cid] = gevent.getcurrent()
        try:
            arrival(connection)
        except RequestError as error:
            self.refuse(connection, error_response(error.status, detail=error.reason))
            return
        finally:
            self._arriving.pop(connection.cid, None)
        # Only now it is known whose connection this is.
        if self.limits.crowded(connection.address) and not self.make_room_of(connection.address):
            page = crowded_page()
            self._note(connection, page, b"")
            self._refuse(connection, serialize(page, keep_alive=False, head=None))
            return
        self.limits.came(connection.cid, connection.address)
        connection.lane = False
        if readable(connection.sock.fileno()):
            self._push_new(connection)
        else:
            self.board_park(connection)

    # -- in the application's place -----------------------------------------------------------------------------------

    def fall_back(self, answer: Answer) -> None:
        """Answer every request in the application's place from now on, those that wait included."""
        self.fallback.begin(answer)
        self.stand_in_for_waiting()

    def stand_in_for_waiting(self) -> None:
        """Answer what no worker has taken."""
        for item in self.parking.take_back(1 << 16):
            item.discard()
            connection = self.connections.get(item.cid)
            found = parse_head(item.read, self._limits) if item.read else None
            if connection is not None and found is not None:
                self._in_lane(connection, self._stand_in, found[0])
            elif connection is not None:
                self._in_lane(connection, self._read_on, b"")

    def _stand_in(self, connection: ClientConnection, head: RequestHead) -> None:
        response = self.fallback.respond(head.variables)
        self._note(connection, response, head.raw)
        lanes.send_all(connection.sock, serialize(response, keep_alive=False, head=head), self._timeouts)
        self._linger(connection)

    # -- workers ------------------------------------------------------------------------------------------------------

    def worker_joined(self, serial: int, post: Post) -> None:
        """A worker may take connections from now on."""
        self._posts[serial] = post
        self.parking.workers = len(self._posts)

    def worker_gone(self, serial: int, served: Iterable[tuple[int, bool, str]], error_id: str) -> None:
        """A worker has died. `served`: the connections it had, whether a response had begun on them, request lines."""
        self._posts.pop(serial, None)
        self.parking.workers = len(self._posts)
        self.parking.worker_died()
        for cid, begun, line in served:
            connection = self.connections.get(cid)
            if connection is None or connection.lane:
                # A lane has what the worker gave away in its last moment: its socket must not be closed meanwhile.
                continue
            if begun:
                self.close(connection, reset=True)
            else:
                self.refuse(connection, error_response(502, error_id=error_id), line.encode())
        for connection in self.connections.values():
            _holds_no_more(connection, serial)

    def recover_lost(self, busy: Callable[[], set[int]]) -> None:
        """After a death: find connections that the dead worker took without leaving word, and let them be taken."""
        gevent.spawn(self._recover_lost, busy)

    def _recover_lost(self, busy: Callable[[], set[int]]) -> None:
        suspects: set[int] = set()
        for _ in range(10):
            lost = self.parking.lost(self.connections, busy())
            for connection in lost:
                if connection.cid in suspects:
                    self.parking.recover(connection)
            suspects = {connection.cid for connection in lost} - suspects
            gevent.sleep(0.5)

    def heard(self, serial: int, msg: message.Message, fds: list[int]) -> None:
        """A worker has said something about a connection."""
        if isinstance(msg, message.ClosedAll):
            self._on_closed_all(serial, msg.data)
            return
        handler = self._handlers.get(type(msg))
        cid: int = getattr(msg, "cid", 0)
        connection = self.connections.get(cid)
        if handler is None:
            log.error("a worker sent what the front end does not know: %s", msg)
        elif connection is not None:
            try:
                handler(serial, connection, msg, fds)
            except OSError as error:
                log.error("a connection is given up: %s", error.strerror)
                self.close(connection, reset=True)
        elif isinstance(msg, message.Wanted | message.Holding):
            # Holding, too, may come after the end: another worker can be quicker to take and close the connection.
            self._posts[serial].outbox.send(message.Gone(cid))
            self._posts[serial].call()
        channels.close_all(fds)

    def give_up(self, msg: message.Message) -> None:
        """What a worker has sent with this message is lost, so its connection cannot go on."""
        connection = self.connections.get(getattr(msg, "cid", 0))
        if connection is not None:
            log.error("out of descriptors: a connection is given up")
            self.close(connection, reset=True)

    def _message_handlers(self) -> dict[type[message.Message], Callable[..., None]]:
        return {
            message.Holding: self._on_holding,
            message.Closed: self._on_closed,
            message.Wanted: self._on_wanted,
            message.GivenBack: self._on_given_back,
            message.Undelivered: self._on_undelivered,
        }

    def _on_holding(self, serial: int, connection: ClientConnection, _msg: object, _fds: object) -> None:
        if connection.holders is None:
            connection.holders = set()
        connection.holders.add(serial)

    def _on_closed(
        self, serial: int, connection: ClientConnection, msg: message.Closed, _fds: object
    ) -> None:
        _holds_no_more(connection, serial)
        if msg.linger:
            self._in_lane(connection, self._linger)
        else:
            self.close(connection, reset=bool(msg.reset))

    def _on_closed_all(self, serial: int, data: bytes) -> None:
        for (cid,) in struct.iter_unpack("<Q", data):
            connection = self.connections.get(cid)
            if connection is not None:
                _holds_no_more(connection, serial)
                self.close(connection)

    def _on_wanted(self, serial: int, connection: ClientConnection, _msg: object, _fds: object) -> None:
        peer = connection.address.encode()
        lent = message.Lent(connection.cid, connection.port, connection.listener, len(peer), peer)
        self._posts[serial].outbox.send(lent, [connection.sock.fileno()])

    def _on_given_back(
        self, serial: int, connection: ClientConnection, msg: message.GivenBack, fds: list[int]
    ) -> None:
        _holds_no_more(connection, serial)
        data = _whole_file(fds[0]) if fds else msg.data
        self._in_lane(connection, self._read_on, data)

    def _on_undelivered(
        self, serial: int, connection: ClientConnection, msg: message.Undelivered, fds: list[int]
    ) -> None:
        _holds_no_more(connection, serial)
        places = struct.unpack_from(f"<{2 * msg.files}Q", msg.data)
        files = [(os.dup(fd), places[2 * n], places[2 * n + 1]) for n, fd in enumerate(fds)]
        first = msg.data[16 * msg.files :]
        self._in_lane(connection, self._drain, first, files, bool(msg.keep_alive))

    # -- lanes --------------------------------------------------------------------------------------------------------

    def _in_lane(self, connection: ClientConnection, work: Callable[..., None], *arguments: object) -> None:
        connection.lane = True
        gevent.spawn(self._run_lane, connection, work, *arguments)

    def _run_lane(self, connection: ClientConnection, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(connection, *arguments)
        except (ClientDisconnected, gevent.GreenletExit):
            self.close(connection)
        except OSError as error:
            log.error("a connection is given up: %s", error.strerror)
            self.close(connection, reset=True)
        except Exception:
            log.exception("a lane of the front end failed")
            self.close(connection, reset=True)

    def _read_on(self, connection: ClientConnection, data: bytes) -> None:
        try:
            request = lanes.read_request(connection.sock, data, self._limits, self._timeouts, self._new_spool)
        except RequestError as error:
            self._answer_error(connection, error, data)
            return
        connection.lane = False
        self._push_request(connection, request)

    def _answer_error(self, connection: ClientConnection, error: RequestError, data: bytes) -> None:
        if error.status == 408 and not data.strip(b"\r\n"):
            self.close(connection)
            return
        if error.status >= 500:
            log.error("%s", error.reason)
        self.refuse(connection, error_response(error.status, detail=error.reason), error.seen or data)

    def _push_request(self, connection: ClientConnection, request: lanes.CompleteRequest) -> None:
        if self.fallback.active:
            request.body.close()
            self._in_lane(connection, self._stand_in, request.head)
            return
        refusal = self._admit()
        if refusal is not None:
            request.body.close()
            self.refuse(connection, refusal, request.raw_head)
            return
        length = len(request.body)
        if length <= INLINE_BODY:
            data = request.raw_head + request.body.read_all() + request.rest
            self.parking.push(connection, length, data)
        else:
            fd, _, _ = request.body.into_file()
            self.parking.push(connection, length, request.raw_head + request.rest, fd)
        request.body.close()

    def _drain(
        self, connection: ClientConnection, first: bytes, files: list[tuple[int, int, int]], keep_alive: bool
    ) -> None:
        timeouts = self._timeouts if connection.cut is None else self._relayed
        try:
            lanes.send_all(connection.sock, first, timeouts)
            lanes.send_files(connection.sock, files, timeouts)
        except ClientDisconnected:
            # A client that stalled must not take what it got for the whole.
            self.close(connection, reset=True)
            return
        finally:
            channels.close_all([fd for fd, _, _ in files])
        connection.lane = False
        if keep_alive:
            self.board_park(connection)
        else:
            connection.lane = True
            self._linger(connection)

    def board_park(self, connection: ClientConnection) -> None:
        """Let the connection wait for its next request."""
        self.parking.board.park(connection.cid, time.monotonic())
        self.parking.park(connection)

    def _linger(self, connection: ClientConnection) -> None:
        lanes.linger(connection.sock)
        self.close(connection)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def refuse(self, connection: ClientConnection, response: Response, seen: bytes = b"") -> None:
        """Answer with an error of our own and close. `seen`: what has been read of the request, for the access log."""
        self._note(connection, response, seen)
        self._in_lane(connection, self._refuse, serialize(response, keep_alive=False, head=None))

    def _refuse(self, connection: ClientConnection, data: bytes) -> None:
        lanes.send_all(connection.sock, data, self._timeouts)
        self._linger(connection)

    def _note(self, connection: ClientConnection, response: Response, seen: bytes) -> None:
        self.answered[response.status] += 1
        if self.log_refused is not None:
            self.log_refused(connection.address, seen or _unread(connection.sock), response)

    def note_refused(self, address: str, seen: bytes, response: Response) -> None:
        """Have a request in the access log, if there is one, that is answered without a worker."""
        if self.log_refused is not None:
            self.log_refused(address, seen, response)

    def answer_now(self, connection: ClientConnection, response: Response, seen: bytes) -> None:
        """Answer in the place of a worker that is stopped: when this returns, it can send nothing more."""
        self._note(connection, response, seen)
        data = serialize(response, keep_alive=False, head=None)
        try:
            connection.sock.send(data)
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(connection, reset=True)
            return
        self._in_lane(connection, self._linger)

    def refuse_waiting(self, most: int, response: Response) -> int:
        """Answer so many of the requests that no worker has taken with an error; returns how many there were."""
        count = 0
        for item in self.parking.take_back(most):
            item.discard()
            connection = self.connections.get(item.cid)
            if connection is not None:
                count += 1
                self.refuse(connection, response)
        return count

    def close(self, connection: ClientConnection, *, reset: bool = False) -> None:
        """The connection is over, here and in every worker that holds it."""
        if self.connections.pop(connection.cid, None) is None:
            return
        self.limits.left(connection.cid)
        self.parking.forget(connection)
        self.parking.board.park(connection.cid, 0.0)
        if reset and connection.cut is not None:
            connection.cut()
        elif reset:
            reset_now(connection.sock)
        elif connection.holders:
            _end_of_sending(connection.sock)
        for serial in connection.holders or ():
            post = self._posts.get(serial)
            if post is not None:
                post.outbox.send(message.Gone(connection.cid))
                post.call()
        connection.sock.close()

    def sweep(self, busy: set[int]) -> None:
        """Close what has been idle for longer than it may; `busy`: what workers are serving."""
        oldest = time.monotonic() - self._idle_timeout
        for connection in list(self.connections.values()):
            since = self.parking.board.parked_since(connection.cid)
            if 0.0 < since < oldest and not connection.lane and connection.cid not in busy:
                _end_of_sending(connection.sock)
                self.close(connection)

    def close_longest_idle(self, most: int, whose: Callable[[str], bool] | None = None) -> int:
        """Close up to `most` connections that wait for their next request, of some addresses only; returns how many."""
        since = self.parking.board.parked_since
        parked = [
            (since(connection.cid), connection.cid, connection) for connection in self.connections.values()
            if not connection.lane and self._is_parked(connection) and (whose is None or whose(connection.address))
        ]
        quiet = [
            connection for _, _, connection in heapq.nsmallest(most, parked) if not readable(connection.sock.fileno())
        ]
        # Only now: what has just been read from is with a worker, and no longer readable.
        busy = self.busy()
        idle = [connection for connection in quiet if connection.cid not in busy]
        for connection in idle:
            _end_of_sending(connection.sock)
            self.close(connection)
        return len(idle)

    def make_room_of(self, address: str) -> bool:
        """Close the longest idle connection of a client that has too many; False when it has none that is idle."""
        if self.close_longest_idle(1, lambda other: self.limits.same_client(address, other)):
            return True
        line = self.limits.count_refused(address, time.monotonic())
        if line is not None:
            log.warning(line)
        return False

    def close_idle(self, busy: set[int]) -> None:
        """The server stops: close every connection on which nothing is going on."""
        for arriving in self._arriving.values():
            arriving.kill(block=False)
        for connection in list(self.connections.values()):
            if connection.lane or connection.cid in busy or not self._is_parked(connection):
                continue
            if not readable(connection.sock.fileno()):
                _end_of_sending(connection.sock)
                self.close(connection)

    def _is_parked(self, connection: ClientConnection) -> bool:
        return self.parking.board.parked_since(connection.cid) > 0.0


def _holds_no_more(connection: ClientConnection, serial: int) -> None:
    if connection.holders is not None:
        connection.holders.discard(serial)


def _end_of_sending(sock: socket.socket) -> None:
    # Workers hold the file too: only shutdown reaches the client at once.
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _unread(sock: socket.socket) -> bytes:
    """The beginning of what nobody has read yet."""
    try:
        return sock.recv(SHOWN, socket.MSG_PEEK)
    except (OSError, ValueError):
        return b""


def _whole_file(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
