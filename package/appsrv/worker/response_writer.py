"""Writes responses: to the client at once, and to a backlog what the client does not take yet.

A slow client never holds the worker: the drain lane sends the backlog when the application has finished. Only a
response larger than `response_buffer_size` waits for its client. The writer knows bytes and one socket, not HTTP.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from dataclasses import dataclass

from appsrv.errors import ClientDisconnected, Limit, NoRoomForResponse
from appsrv.ipc.scoreboard import GONE, HALF_CLOSED, Cell
from appsrv.net.min_rate import DeliveredBytes, MinRate
from appsrv.system import unpatched
from appsrv.system.spool import Spool

_PIECE_BYTES = 256 * 1024
_RATE_CHECKS = 4
_RESET_SECONDS, _RESET_CHECK_SECONDS = 0.1, 0.002
# With these errors of sendfile(2) the file or its disk is to blame, and not the client.
_FILE_FAULTS = frozenset({errno.EBADF, errno.EINVAL, errno.EIO, errno.ENOMEM, errno.EOVERFLOW, errno.ESTALE})


@dataclass(frozen=True, slots=True)
class ResponseBuffer:
    """The backlog of a response: `memory` bytes are kept in memory, `size` bytes at all, the rest in a file in
    `directory`.

    Beyond `size` a worker waits for its client, as long as `MinRate` allows with this pause and rate.
    """

    memory: int = 1 << 20
    size: int = 128 << 20
    directory: str | None = None
    pause: float = 60.0
    rate: float = 0.0


class ResponseWriter:
    """Writes one response after the other. `sock`, the client's connection, is to be set before each.

    `pending`: the drain lane has to send the rest. PEP 3333 requires that data is on its way when `send` returns.
    """

    __slots__ = (
        *("_backlog", "_begun", "_between_chunks", "_buffer", "_cell", "_departed", "_file", "_waited", "pending"),
        "sock",
    )

    sock: socket.socket

    def __init__(self, cell: Cell, buffer: ResponseBuffer) -> None:
        self._cell = cell
        self._begun = cell.begun
        self._between_chunks = cell.between_chunks
        self._departed = cell.departed
        self._waited = 0
        self._buffer = buffer
        self._backlog: Spool | None = None
        self._file: tuple[int, int, int] | None = None
        self.pending = False

    def send(self, data: bytes) -> None:
        """Send, and keep what the client does not take.

        ClientDisconnected when the client has gone, NoRoomForResponse when it cannot be kept.
        """
        self._begun()
        self.send_interim(data)

    def send_piece(self, data: bytes, chunked: bool, /) -> None:
        """One piece of a body that comes in pieces. It may be empty.

        ClientDisconnected also when the client is known to have gone: the application then finds it out at its next
        piece, even an empty one. `chunked`: the next piece begins with the size of a chunk.
        """
        if self._departed[0]:
            self._send_to_departed(data)
        elif data:
            self._begun()
            self.send_interim(data)
        if chunked and self._backlog is None:
            self._between_chunks()

    def _send_to_departed(self, data: bytes) -> None:
        client = self._cell.client()
        if client == GONE:
            raise ClientDisconnected("the client has disconnected")
        if data:
            self.send(data)
            if client == HALF_CLOSED and self._waited != self._departed[0]:
                # A client that has closed both directions answers data with a reset (RFC 9293 section 3.10.7). One that
                # only sends nothing more does not. Wait for the reset, once per request.
                self._waited = self._departed[0]
                self._wait_for_reset()

    def _wait_for_reset(self) -> None:
        # poll(2) reports a reset without being asked for any event. gevent's poll does not, so that this is the
        # unpatched one, which must not block: other greenlets run between two calls.
        poll = unpatched.poll()
        poll.register(self.sock.fileno(), 0)
        due = time.monotonic() + _RESET_SECONDS
        while not poll.poll(0):
            if time.monotonic() >= due:
                return
            time.sleep(_RESET_CHECK_SECONDS)
        raise ClientDisconnected("the client has disconnected")

    def send_interim(self, data: bytes) -> None:
        """Send an interim response (RFC 9110 section 15.2). If the worker crashes after it, the server may still
        answer.
        """
        if self._backlog is not None:
            self._append(data)
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientDisconnected(str(error)) from error
        if sent != len(data):
            self._backlog, self.pending = Spool(self._buffer.memory, self._buffer.directory), True
            self._append(memoryview(data)[sent:])

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        """Send a part of a file without reading it. The rest is kept as (descriptor, offset, length).

        OSError or EOFError when the file is to blame.
        """
        while count and self._backlog is None:
            try:
                sent = os.sendfile(self.sock.fileno(), fd, offset, count)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _FILE_FAULTS:
                    raise
                raise ClientDisconnected(str(error)) from error
            if not sent:
                raise EOFError("the file became shorter while it was sent")
            offset, count = offset + sent, count - sent
        if count:
            self._file, self.pending = (os.dup(fd), offset, count), True

    def cut(self) -> None:
        """The response is incomplete: drop the rest. The handler ends the connection."""
        self.forget()

    def rest(self, inline: int) -> tuple[bytes, list[tuple[int, int, int]]]:
        """The rest of the response: up to `inline` bytes to send first, then files as (descriptor, offset, length)."""
        first, files = b"", []
        if self._backlog is not None and len(self._backlog) <= inline:
            first = self._backlog.read_all()
        elif self._backlog is not None:
            files.append(self._backlog.into_file())
        if self._file is not None:
            files.append(self._file)
        return first, files

    def forget(self) -> None:
        """Drop the rest of the response."""
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None
        if self._file is not None:
            os.close(self._file[0])
            self._file = None
        self.pending = False

    def close_in_child(self) -> None:
        """In a child of this process: close the client's connection, so that nothing can be sent."""
        sock: socket.socket | None = getattr(self, "sock", None)
        if sock is not None:
            sock.close()

    def _append(self, data: bytes | memoryview) -> None:
        assert self._backlog is not None
        view = memoryview(data)
        self._flush()
        while view:
            room = self._buffer.size - len(self._backlog)
            if room > 0:
                self._keep(view[:room])
                view = view[room:]
            else:
                self._empty()

    def _keep(self, data: memoryview) -> None:
        assert self._backlog is not None
        try:
            self._backlog.write(data)
        except OSError as error:
            raise NoRoomForResponse(self._buffer.directory, error) from error

    def _empty(self) -> None:
        # All of it: a spool gives its room on the disk back only when it is empty.
        assert self._backlog is not None
        delivered = DeliveredBytes(self.sock)
        min_rate = MinRate(self._buffer.pause, self._buffer.rate, time.monotonic())
        while len(self._backlog):
            self._wait_for_client(min_rate, delivered)
            delivered.add_sent(self._flush())

    def _flush(self) -> int:
        """Send what the client takes; return how many bytes that were."""
        backlog = self._backlog
        assert backlog is not None
        before = len(backlog)
        while len(backlog):
            try:
                backlog.take(self.sock.send(backlog.peek(_PIECE_BYTES)))
            except BlockingIOError:
                break
            except OSError as error:
                raise ClientDisconnected(str(error)) from error
        return before - len(backlog)

    def _wait_for_client(self, min_rate: MinRate, delivered: DeliveredBytes) -> None:
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLOUT)
        while not poll.poll(1000 * min(min_rate.left(time.monotonic()), self._buffer.pause / _RATE_CHECKS)):
            min_rate.progress(delivered.new(), time.monotonic())
            if not min_rate.left(time.monotonic()):
                limit = Limit("body_timeout", min_rate.terms)
                raise ClientDisconnected("the client reads the response too slowly", limit)
        min_rate.progress(delivered.new(), time.monotonic())
