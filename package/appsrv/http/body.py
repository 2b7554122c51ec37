"""Request bodies: the bytes after a head in, the bytes of the body out. No I/O.

The chunked decoder is appsrv's own and checks every byte of the framing (RFC 9112 section 7.1). If one server accepted
an error in the framing, another one could take a part of the body for a second request (request smuggling).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from appsrv.errors import Limit, RequestError
from appsrv.http.syntax import FORWARDING, TOKEN, Limits, RequestHead, is_field_value, is_token

__all__ = ["ChunkedBody", "FixedBody", "body_reader"]

_TOKEN = TOKEN.encode()
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")

# Fields for framing, routing, authentication or the meaning of the request, by their CGI names: a trailer must not have
# them (RFC 9110 section 6.5.1).
_FORBIDDEN_TRAILERS = frozenset(
    {
        *("HOST", "CONTENT_LENGTH", "TRANSFER_ENCODING", "CONNECTION", "KEEP_ALIVE", "PROXY_CONNECTION", "TE"),
        *("TRAILER", "UPGRADE", "EXPECT", "MAX_FORWARDS", "RANGE", "IF_RANGE", "IF_MATCH", "IF_NONE_MATCH"),
        *("IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE", "CACHE_CONTROL", "PRAGMA", "AUTHORIZATION", "PROXY"),
        *("PROXY_AUTHORIZATION", "COOKIE", "SET_COOKIE", "CONTENT_ENCODING", "CONTENT_RANGE", "CONTENT_TYPE"),
        *("CONTENT_LANGUAGE", "CONTENT_LOCATION", "CONTENT_DISPOSITION", "ORIGIN", "REFERER", "VIA"),
        *("X_REAL_IP", "X_REQUEST_ID", "X_HTTP_METHOD_OVERRIDE", "REMOTE_USER", "X_REMOTE_USER"),
    }
)
_UNPREFIXED = frozenset({"CONTENT_LENGTH", "CONTENT_TYPE"})


def body_reader(head: RequestHead, limits: Limits) -> FixedBody | ChunkedBody:
    """The reader for the body that follows `head`; it is complete at once if there is no body."""
    return ChunkedBody(limits, head.variables) if head.chunked else FixedBody(head.content_length or 0)


class FixedBody:
    """A body with the length of its Content-Length."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.received = 0

    @property
    def complete(self) -> bool:
        """Whether the whole body was received."""
        return self.received == self._length

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(the bytes of `data` that belong to the body, the bytes after it)."""
        body = data[: self._length - self.received]
        self.received += len(body)
        return body, data[len(body) :]


class ChunkedBody:
    """A body in chunks. Trailers are checked and dropped. `received` counts the bytes of the body without the framing.

    `fields` are the fields of the head, by CGI name: a trailer must not repeat one of them.
    """

    def __init__(self, limits: Limits, fields: Collection[str] = ()) -> None:
        self._limits = limits
        self._fields = fields
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
        """(the bytes of `data` that belong to the body, the bytes after it). Raises RequestError (400, 413 or 431)."""
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
        """Read on in the current line of the framing, and process it if it is complete. Returns the next position."""
        newline = data.find(b"\n", position, position + self._line_limit + 1)
        end = newline + 1 or len(data)
        # A line of the maximum length without its line end is too long.
        if len(self._line) + end - position + (newline < 0) > self._line_limit:
            raise self._too_long()
        self._line += data[position:end]
        if newline >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise RequestError(400, "Line does not end with CR LF in a chunked body")
            self._take_line(line[:-2])
        elif self._line_limit == 2 and self._line != b"\r":
            raise self._too_long()  # After the data of a chunk, only CR LF is allowed.
        return end

    def _too_long(self) -> RequestError:
        if self._take_line == self._take_trailer:
            return RequestError(431, "Trailers too large", Limit("max_trailer_size", str(self._limits.trailer_block)))
        return RequestError(400, "Line too long in a chunked body")

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
            raise RequestError(413, "Request body too large", Limit("max_body_size", str(self._limits.body)))
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
        # The rest of the limit, for the next line. The empty line at the end does not count.
        self._line_limit = max(2, self._limits.trailer_block - self._trailers)
        name, colon, value = line.partition(b":")
        if not colon or not is_token(name) or not is_field_value(value):
            raise RequestError(400, "Malformed trailer")
        key = name.decode("ascii").upper().replace("-", "_")
        field = key if key in _UNPREFIXED else f"HTTP_{key}"
        if key in _FORBIDDEN_TRAILERS or field in FORWARDING:
            raise RequestError(400, "Forbidden trailer")
        # A proxy that merges trailers into the head would see another request than this server (RFC 9110 section
        # 6.5.1).
        if field in self._fields:
            raise RequestError(400, "Trailer of a field that the head has, too")
