"""Request bodies: the bytes behind a head in, the body's own bytes out. No I/O.

Our own chunked decoder: every byte of the framing is checked (RFC 9112 section 7.1), because what one server
forgives there another reads as a second request.
"""

from __future__ import annotations

import re

from appsrv.errors import RequestError
from appsrv.http_syntax import Limits, RequestHead, is_field_value, is_token

__all__ = ["ChunkedBody", "FixedBody", "body_reader"]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")

# Fields that frame, route, authorise or change the meaning of the request: too late in a trailer.
_FORBIDDEN_TRAILERS = frozenset(
    {
        *(b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive"),
        *(b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect", b"max-forwards", b"range"),
        *(b"cache-control", b"pragma"),
        *(b"authorization", b"proxy-authorization", b"cookie", b"content-encoding", b"content-range"),
        *(b"content-type", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port"),
        *(b"x-forwarded-prefix", b"x-forwarded-proto"),
    }
)


def body_reader(head: RequestHead, limits: Limits) -> FixedBody | ChunkedBody:
    """The reader for the body that follows `head`; already complete when none does."""
    return ChunkedBody(limits) if head.chunked else FixedBody(head.content_length or 0)


class FixedBody:
    """A body of a length announced by Content-Length."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.received = 0

    @property
    def complete(self) -> bool:
        """Whether nothing more belongs to the body."""
        return self.received == self._length

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The bytes that belong to the body, and those behind it."""
        body = data[: self._length - self.received]
        self.received += len(body)
        return body, data[len(body) :]


class ChunkedBody:
    """A body in chunks; trailers are checked and dropped. `received` counts its bytes without the framing."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._line = bytearray()
        self._take_line = self._take_size
        self._line_limit = limits.chunk_line
        self._announced = 0
        self._chunk_left = 0
        self._extensions = 0
        self._trailers = 0
        self.received = 0
        self.complete = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The bytes that belong to the body, and those behind it. Raises `RequestError` (400, 413 or 431)."""
        body: list[bytes] = []
        position = 0
        while position < len(data) and not self.complete:
            if self._chunk_left:
                piece = data[position : position + self._chunk_left]
                self._chunk_left -= len(piece)
                position += len(piece)
                body.append(piece)
            else:
                position = self._read_line(data, position)
        content = b"".join(body)
        self.received += len(content)
        return content, data[position:]

    def _read_line(self, data: bytes, position: int) -> int:
        """Go on with the current line of framing; act on it when it is whole. Returns the next position."""
        newline = data.find(b"\n", position, position + self._line_limit + 1)
        end = newline + 1 or len(data)
        if len(self._line) + end - position > self._line_limit:
            raise RequestError(400, "Line too long in a chunked body")
        self._line += data[position:end]
        if newline >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise RequestError(400, "Line does not end with CR LF in a chunked body")
            self._take_line(line[:-2])
        return end

    def _take_size(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestError(400, "Malformed chunk size")
        self._extensions += len(match[2])
        if self._extensions > self._limits.chunk_extensions:
            raise RequestError(400, "Too many chunk extensions")
        self._start_chunk(int(match[1], 16))

    def _start_chunk(self, size: int) -> None:
        self._announced += size
        if self._announced > self._limits.body:
            raise RequestError(413, "Request body too large")
        self._chunk_left = size
        if size:
            self._take_line, self._line_limit = self._take_chunk_end, 2
        else:
            self._take_line, self._line_limit = self._take_trailer, self._limits.trailer_block

    def _take_chunk_end(self, line: bytes) -> None:
        if line:
            raise RequestError(400, "Chunk is longer than its size")
        self._take_line, self._line_limit = self._take_size, self._limits.chunk_line

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
            return
        self._trailers += len(line) + 2
        if self._trailers > self._limits.trailer_block:
            raise RequestError(431, "Trailers too large")
        name, colon, value = line.partition(b":")
        if not colon or not is_token(name) or not is_field_value(value):
            raise RequestError(400, "Malformed trailer")
        if name.lower() in _FORBIDDEN_TRAILERS:
            raise RequestError(400, "Forbidden trailer")
