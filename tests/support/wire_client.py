"""A client that sends bytes in given pieces and reads the answers as strictly as RFC 9112 lets it.

Over a unix socket the kernel says when the other side has read everything: there each piece is sent only after that, so
that the server reads exactly these pieces. Shares no code with appsrv.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from support.http import TIMEOUT, Address, connect

PAUSE = 0.0002


@dataclass(frozen=True)
class Answer:
    """One response: `fields` by lower-case name; a field may come only once."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.fields.get("connection") == "close"


class WireClient:
    """One connection."""

    def __init__(self, address: Address) -> None:
        self._sock = connect(address)
        self._waits = self._sock.family == socket.AF_UNIX
        self._buffer = b""
        if not self._waits:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> WireClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def send(self, pieces: Sequence[bytes], *, unless_refused: bool = False) -> None:
        """Send the pieces one by one; a server that has ended the connection meanwhile is no error.

        `unless_refused`: send no more once an error has been answered (RFC 9112 section 9.5). Who goes on for longer
        than the server reads on is reset, as one that sends byte by byte on a busy machine.
        """
        try:
            for number, piece in enumerate(pieces):
                if number and self._waits:
                    self._wait_until_read()
                if number and unless_refused and self._is_refused():
                    return
                self._sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _is_refused(self) -> bool:
        # A socket with a timeout waits for something to read, whatever the flags of the call say.
        if not select.select([self._sock], [], [], 0)[0]:
            return False
        return self._sock.recv(10, socket.MSG_PEEK) in (b"HTTP/1.1 4", b"HTTP/1.1 5")

    def _wait_until_read(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
            assert time.monotonic() < deadline, "the server does not read what was sent"
            time.sleep(PAUSE)

    def answer(self, *, bodiless: bool = False) -> Answer:
        """The next response; interim ones (100) are read over."""
        while (found := self._answer(bodiless)).status < 200:
            assert found.status == 100
        return found

    def interim(self) -> int:
        """The status of the next response, which must have nothing but a head."""
        return self._answer(bodiless=True).status

    def read(self, size: int) -> None:
        """Read so much of whatever comes."""
        self._exactly(size)

    def _answer(self, bodiless: bool) -> Answer:
        top = self._until(b"\r\n\r\n")
        first, *lines = top[:-4].decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        names = [line.partition(": ")[0].lower() for line in lines]
        assert len(set(names)) == len(names), f"a field comes twice: {names}"
        fields = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}
        return Answer(int(status), fields, self._body(int(status), fields, bodiless))

    def _body(self, status: int, fields: dict[str, str], bodiless: bool) -> bytes:
        assert not {"content-length", "transfer-encoding"} <= fields.keys()
        if bodiless or status < 200 or status in (204, 304):
            return b""
        if fields.get("transfer-encoding") == "chunked":
            return self._chunks()
        if "content-length" in fields:
            return self._exactly(int(fields["content-length"]))
        assert fields.get("connection") == "close", "no framing, but the connection stays"
        return self.rest()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n")[:-2], 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"
        return body

    def rest(self) -> bytes:
        """Everything up to the end of the connection; a reset raises ConnectionResetError."""
        while self._receive():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            if not self._receive():
                raise EOFError(f"the connection ended, at {self._buffer[:200]!r}")
        data, found, self._buffer = self._buffer.partition(end)
        return data + found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._receive():
                raise EOFError(f"the connection ended {size - len(self._buffer)} bytes too early")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> bool:
        data = self._sock.recv(65536)
        self._buffer += data
        return bool(data)
