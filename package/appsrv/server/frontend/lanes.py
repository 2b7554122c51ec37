"""The slow lane and the drain lane: where the server waits for clients, so that no worker has to.

The slow lane reads a request until it is complete. The drain lane sends the rest of a response. Each is a greenlet per
connection, with timeouts. This module knows one client's socket at a time, neither workers nor queues.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gevent
from gevent.socket import wait_read, wait_write

from appsrv.errors import ClientDisconnected, Limit, RequestError
from appsrv.http.body import body_reader
from appsrv.http.head import HeadReader
from appsrv.http.syntax import Limits, RequestHead
from appsrv.net.min_rate import DeliveredBytes, MinRate
from appsrv.system.spool import Spool

READ = 32 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODY_IN_MEMORY = 128 * 1024
LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
MOST_UNSENT_BYTES = 64 * 1024
_SEND = 256 * 1024
RATE_CHECKS = 4


@dataclass(frozen=True)
class Timeouts:
    """Seconds for a whole head, for a pause within a body, and for a pause within a response that is being sent.

    `rate`: the bytes per second that a client has to send of a body and to take of a response; 0.0: any rate.
    """

    header: float
    body: float
    drain: float = 60.0
    rate: float = 0.0


@dataclass
class CompleteRequest:
    """A request that the slow lane has read: the raw head, the parsed head, the body without framing, and what came
    after it.
    """

    raw_head: bytes
    head: RequestHead
    body: Spool
    rest: bytes


def default_spool() -> Spool:
    """The spool for a body where no setting says otherwise."""
    return Spool(BODY_IN_MEMORY)


def read_request(
    sock: socket.socket, already: bytes, limits: Limits, timeouts: Timeouts,
    new_spool: Callable[[], Spool] = default_spool, whole: Callable[[RequestHead], bool] = lambda _: True,
) -> CompleteRequest:
    """Read until the request is complete, or until its head is where the application reads the body itself.

    `whole` tells, by the head, whether the body is to be read. If not, the part of it that has arrived is in `rest`.
    Raises RequestError (408 after a timeout, 413, 507 and others) or ClientDisconnected.
    """
    head, raw_head, rest = _read_head(sock, already, limits, timeouts)
    body = new_spool()
    if head.body_expected and whole(head):
        try:
            rest = _read_body(sock, head, rest, body, limits, timeouts)
        except BaseException:
            body.close()
            raise
    return CompleteRequest(raw_head, head, body, rest)


def _read_head(
    sock: socket.socket, data: bytes, limits: Limits, timeouts: Timeouts
) -> tuple[RequestHead, bytes, bytes]:
    reader = HeadReader(limits)
    deadline = time.monotonic() + timeouts.header
    limit = Limit("header_timeout", f"{timeouts.header:g} s")
    while True:
        found = reader.feed(data)
        if found is not None:
            return found
        data = _receive(sock, deadline - time.monotonic(), "The request head did not arrive in time", limit)


def _read_body(
    sock: socket.socket, head: RequestHead, data: bytes, body: Spool, limits: Limits, timeouts: Timeouts
) -> bytes:
    """Read the body into `body`; return what the client has sent after it."""
    reader = body_reader(head, limits)
    if head.expect_continue and not data:
        send_all(sock, CONTINUE, timeouts)
    min_rate = MinRate(timeouts.body, timeouts.rate, time.monotonic())
    limit = Limit("body_timeout", min_rate.terms)
    while True:
        piece, data = reader.feed(data)
        _store(piece, body)
        if reader.complete:
            return data
        data = _receive(sock, min_rate.left(time.monotonic()), "The request body did not arrive in time", limit)
        min_rate.progress(len(data), time.monotonic())


def _store(piece: bytes, body: Spool) -> None:
    try:
        body.write(piece)
    except OSError as error:
        what = f"no room to keep the request body: {error.strerror}; make room in data_buffer_dir"
        raise RequestError(507, what) from error


def _receive(sock: socket.socket, timeout: float, message: str, limit: Limit) -> bytes:
    try:
        _wait(wait_read, sock, timeout)
        data = sock.recv(READ)
    except BlockingIOError:
        return b""
    except TimeoutError as error:
        raise RequestError(408, message, limit) from error
    except OSError as error:
        raise ClientDisconnected(str(error)) from error
    if not data:
        raise ClientDisconnected("the client closed the connection in the middle of a request")
    return data


def send_all(sock: socket.socket, data: bytes, timeouts: Timeouts) -> None:
    """Send all of `data`. ClientDisconnected when the client has gone or takes it too slowly."""
    view = memoryview(data)

    def send() -> int:
        nonlocal view
        sent = sock.send(view[:_SEND])
        view = view[sent:]
        return sent

    _drain(sock, send, lambda: bool(view), timeouts)


def send_files(sock: socket.socket, files: Sequence[tuple[int, int, int]], timeouts: Timeouts) -> None:
    """Send parts of files, each (descriptor, offset, length), without reading them into this process."""
    with _little_unsent(sock) if files else contextlib.nullcontext():
        for fd, offset, length in files:
            _send_file(sock, fd, offset, length, timeouts)


def _send_file(sock: socket.socket, fd: int, offset: int, length: int, timeouts: Timeouts) -> None:
    end = offset + length

    def send() -> int:
        nonlocal offset
        sent = os.sendfile(sock.fileno(), fd, offset, min(end - offset, _SEND))
        if not sent:
            raise ClientDisconnected("the file became shorter while it was sent")
        offset += sent
        # sendfile(2) to a client that takes fast never fails with EAGAIN, so that this greenlet would never wait. Let
        # the others run.
        gevent.sleep(0)
        return sent

    _drain(sock, send, lambda: offset < end, timeouts)


@contextlib.contextmanager
def _little_unsent(sock: socket.socket) -> Iterator[None]:
    """Let the kernel keep only a little data that it has not sent yet (TCP_NOTSENT_LOWAT, tcp(7)). Data in flight is
    not limited.

    A longer backlog in the kernel gains nothing. It is sent when acknowledgements arrive, which on one machine happens
    on the client's processor and halves the throughput.
    """
    _set_unsent_limit(sock, MOST_UNSENT_BYTES)
    try:
        yield
    finally:
        _set_unsent_limit(sock, 0)


def _set_unsent_limit(sock: socket.socket, most: int) -> None:
    # Unix sockets and some systems do not have the option.
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)


def _drain(sock: socket.socket, send: Callable[[], int], more: Callable[[], bool], timeouts: Timeouts) -> None:
    delivered, min_rate = DeliveredBytes(sock), MinRate(timeouts.drain, timeouts.rate, time.monotonic())
    while more():
        try:
            delivered.add_sent(send())
        except BlockingIOError:
            wait_writable(sock, min_rate, delivered, timeouts.drain / RATE_CHECKS)
        except OSError as error:
            raise ClientDisconnected(str(error)) from error


def linger(sock: socket.socket) -> None:
    """Read what the client still sends, for a limited time, and discard it. A close with unread data would send a
    reset, and the client could lose the response (RFC 9112 section 9.6).
    """
    deadline, left = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
    try:
        sock.shutdown(socket.SHUT_WR)
        while left > 0:
            _wait(wait_read, sock, deadline - time.monotonic())
            data = sock.recv(READ)
            if not data:
                return
            left -= len(data)
    except OSError:
        return


def wait_writable(sock: socket.socket, min_rate: MinRate, delivered: DeliveredBytes, longest: float) -> None:
    """Wait until more can be sent. ClientDisconnected when the client takes it too slowly.

    `delivered` is read at least every `longest` seconds.
    """
    # A socket becomes writable only when a large part of its buffer is free. A slow client may have taken data long
    # before, and that counts for its rate.
    while True:
        try:
            _wait(wait_write, sock, min(min_rate.left(time.monotonic()), longest))
        except TimeoutError as error:
            min_rate.progress(delivered.new(), time.monotonic())
            if not min_rate.left(time.monotonic()):
                limit = Limit("body_timeout", min_rate.terms)
                raise ClientDisconnected("the client reads the response too slowly", limit) from error
        else:
            min_rate.progress(delivered.new(), time.monotonic())
            return


def _wait(what: object, sock: socket.socket, timeout: float) -> None:
    what(sock.fileno(), max(0.0, timeout), TimeoutError("timed out"))  # type: ignore[operator]


