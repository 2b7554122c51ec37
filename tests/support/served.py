"""Serving one request of a WSGI application into a recording writer, and reading back what a client would see."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from appsrv.errors import ClientDisconnected
from appsrv.http.head import Limits, parse_head
from appsrv.http.syntax import RequestHead
from appsrv.wsgi.environ import build_environ, environ_base
from appsrv.wsgi.run import Environ, ResponseOutcome, respond

DATE = b"Sun, 22 Nov 2026 16:00:00 GMT"
TEXT = ("Content-Type", "text/plain")
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class RecordingWriter:
    """Keeps each call; reads files, as the kernel would."""

    def __init__(self, breaks_after: int = 1000) -> None:
        self.sent: list[bytes] = []
        self.files: list[int] = []
        self.was_cut = 0
        self._left = breaks_after

    def send(self, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise ClientDisconnected("gone")
        assert type(data) is bytes
        assert data
        self.sent.append(data)

    def send_piece(self, data: bytes, chunked: bool, /) -> None:
        if data:
            self.send(data)

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        data = os.pread(fd, count, offset)
        if len(data) < count:
            raise EOFError("the file became shorter")
        self.files.append(count)
        self.sent.append(data)

    def cut(self) -> None:
        self.was_cut += 1

    @property
    def wire(self) -> bytes:
        return b"".join(self.sent)


class Served:
    """One request served: the outcome, what went over the wire, and what a client makes of it."""

    def __init__(
        self,
        app: App,
        method: str = "GET",
        version: str = "1.1",
        *,
        target: str = "/path",
        fields: str = "",
        writer: RecordingWriter | None = None,
        development: bool = False,
    ) -> None:
        self.writer = writer or RecordingWriter()
        self.errors = io.StringIO()
        head = head_of(f"{method} {target} HTTP/{version}\r\nHost: a.example\r\n{fields}\r\n")
        base = environ_base(
            server_name="a.example", server_port=80, multithread=False, multiprocess=True, errors=self.errors
        )
        environ = build_environ(base, head, input=io.BytesIO(), remote_addr="127.0.0.1", remote_port="9")
        self.outcome: ResponseOutcome = respond(app, environ, head, self.writer, date=DATE, development=development)
        self.log = self.errors.getvalue()
        self._read(method)

    def _read(self, method: str) -> None:
        """Read the response as RFC 9112 section 6.3 says; `rest` must be empty for a connection in step."""
        if not self.writer.sent:
            return
        top, _, rest = self.writer.wire.partition(b"\r\n\r\n")
        self.status_line, *lines = top.decode("latin-1").split("\r\n")
        self.status = int(self.status_line.split(" ")[1])
        self.fields = [tuple(line.split(": ", 1)) for line in lines]
        self.headers = {name.lower(): value for name, value in self.fields}
        names = [name.lower() for name, _ in self.fields]
        for name in ("content-length", "transfer-encoding", "connection", "date"):
            assert names.count(name) <= 1
        self.body, self.rest, self.complete = self._framed(rest, method)

    def _framed(self, data: bytes, method: str) -> tuple[bytes, bytes, bool]:
        length = self.headers.get("content-length")
        assert length is None or "transfer-encoding" not in self.headers
        if method == "HEAD" or self.status in (204, 304):
            return b"", data, True
        if self.headers.get("transfer-encoding") == "chunked":
            return unchunk(data)
        if length is None:
            assert self.headers["connection"] == "close"
            return data, b"", True
        return data[: int(length)], data[int(length) :], len(data) >= int(length)


def unchunk(data: bytes) -> tuple[bytes, bytes, bool]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body, end, data = body + data[:count], data[count : count + 2], data[count + 2 :]
        assert end == b"\r\n"
        if count == 0:
            return body, data, True
    return body, b"", False


def head_of(text: str) -> RequestHead:
    parsed = parse_head(text.encode("latin-1"), Limits())
    assert parsed is not None
    return parsed[0]


def app_of(body: Any, *headers: tuple[str, str], status: str = "200 OK") -> App:
    """An application that returns `body`, made anew for each call when it is a function."""

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(status, [TEXT, *headers])
        return body() if callable(body) else body  # type: ignore[no-any-return]

    return app


class Body:
    """An iterable that counts how often it was closed."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None) -> None:
        self._pieces = pieces
        self._error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed += 1


def length(count: int) -> tuple[str, str]:
    return ("Content-Length", str(count))
