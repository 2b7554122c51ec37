"""Runs a WSGI application for one request and writes its response to a `ResponseOutput` (PEP 3333).

This module knows neither sockets nor processes: it passes bytes, and the descriptors of files, to the `ResponseOutput`.
Two rules hold for every behaviour of the application: a response has exactly one framing, and an incomplete body never
looks complete to the client (RFC 9112 section 8).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NoReturn, Protocol

from appsrv.app_process import forked_child, own_lines
from appsrv.errors import ApplicationError, ClientDisconnected, NoRoomForResponse, RequestError, UpstreamError
from appsrv.http.response import error_response, serialize
from appsrv.http.syntax import RequestHead
from appsrv.system import own_frames
from appsrv.wsgi import dropped_headers
from appsrv.wsgi.environ import Environ, build_environ, environ_base
from appsrv.wsgi.file_wrapper import FileWrapper, plain_file
from appsrv.wsgi.request_id import error_id_of
from appsrv.wsgi.response_head import EncodedHead, encode_head, known_heads
from appsrv.wsgi.upstream_hooks import StreamedBody, SwitchedProtocols

__all__ = [
    "CLIENT_LEFT",
    "STREAMS",
    "Environ",
    "ResponseOutcome",
    "ResponseOutput",
    "WSGIApplication",
    "build_environ",
    "environ_base",
    "log_to_errors",
    "respond",
]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
WSGIApplication = Callable[[Environ, Callable[..., Callable[[bytes], None]]], Iterable[bytes]]
LogException = Callable[[Environ, str, str], None]

# The status in the access log of a request whose client disconnected before the response had a status (as in nginx).
CLIENT_LEFT = 499
# A body up to this size is joined with its head and sent in one call.
_MAX_JOINED_BYTES = 256 * 1024
# A file up to this size is read and sent together with its head, instead of by sendfile(2).
_MAX_READ_BYTES = 32 * 1024


class ResponseOutput(Protocol):
    """The destination of a response. Every method accepts all of its data, or raises `ClientDisconnected`."""

    def send(self, data: bytes, /) -> None:
        """Send `data`."""

    def send_piece(self, data: bytes, chunked: bool, /) -> None:
        """Send the next piece of a body, which may be empty; `chunked`: the next piece begins with a chunk size."""

    def sendfile(self, fd: int, offset: int, count: int, /) -> None:
        """Send `count` bytes of an open regular file from `offset`. Raises `EOFError` if the file is shorter."""

    def cut(self) -> None:
        """End the connection in a way that shows the client that the response is incomplete."""


class ResponseOutcome:
    """The result of a request.

    `keep_alive`: the response has announced that the connection stays open. `cut`: the response is incomplete, and the
    connection must end to show it. `error`: the exception, logged under `error_id`; a client's disconnection is not
    logged.
    """

    __slots__ = ("body_bytes", "cut", "error", "error_id", "keep_alive", "started", "status")

    def __init__(self, *, keep_alive: bool) -> None:
        self.status = 0
        self.body_bytes = 0
        self.keep_alive = keep_alive
        self.started = False
        self.cut = False
        self.error: BaseException | None = None
        self.error_id: str | None = None


def log_to_errors(environ: Environ, traceback_text: str, error_id: str) -> None:
    """Write a traceback to `wsgi.errors`, with the request's path. The query is left out: it may hold secrets."""
    errors = environ["wsgi.errors"]
    # A terminal may take some characters beyond ASCII for control sequences (ECMA-48, C1), so all of them are escaped.
    path = str(environ.get("REQUEST_URI", "")).partition("?")[0].encode("ascii", "backslashreplace").decode()
    errors.write(f"Error {error_id} in {environ['REQUEST_METHOD']} {path}\n{traceback_text}")
    errors.flush()


def respond(
    app: WSGIApplication,
    environ: Environ,
    head: RequestHead,
    writer: ResponseOutput,
    date: bytes,
    development: bool = False,
    log_exception: LogException = log_to_errors,
) -> ResponseOutcome:
    """Run `app` for one request and send its response. `date` is the value of the Date field.

    Exceptions of the application, `SystemExit` included, are not raised. They are answered with 500, or by cutting the
    connection if the head was already sent, and are recorded in the outcome.
    """
    # The application's output is labelled with its request: `labelled_output` finds this function on the stack of the
    # printing thread, and reads `environ` in its frame. Therefore do not rename this parameter, do not assign another
    # value to it, and do not call the application from another function.
    answer = _Answer(head, writer, date)
    try:
        body = app(environ, answer.start_response)
        if forked_child.IN_CHILD:
            _end_child(answer, None)
        if (type(body) is list or type(body) is tuple) and len(body) == 1:
            answer.send_whole(body[0])
        else:
            _send_body(answer, body)
    except BaseException as error:
        _fail(answer, environ, error, development, log_exception)
        return answer
    if answer.violation is not None:
        _log_violation(answer, environ, log_exception)
    if answer.dropped is not None:
        dropped_headers.log_dropped(*answer.dropped, environ)
    return answer


def _end_child(answer: _Answer, error: BaseException | None) -> NoReturn:
    """End a child that the application has forked and that returns here: the client belongs to the parent.

    A framework turns an exception into a 500 response. The child then exits with status 1, so that the parent's
    waitpid(2) reports the failure.
    """
    if error is None or isinstance(error, ClientDisconnected):
        forked_child.exit_child(int(answer.status >= 500))
    forked_child.exit_by(error)


def _send_body(answer: _Answer, body: Iterable[bytes]) -> None:
    try:
        if type(body) is FileWrapper:
            answer.send_file(body)
        elif type(body) is list or type(body) is tuple:
            answer.send_whole(b"".join(body))
        elif type(body) is StreamedBody:
            answer.send_stream(body)
        else:
            answer.send_all(body)
    finally:
        if forked_child.IN_CHILD:
            # The application forked while it generated the body. The rest of the body, and the call of `close`, belong
            # to the parent.
            _end_child(answer, sys.exc_info()[1])
        close = getattr(body, "close", None)
        if close is not None:
            close()


class _Answer(ResponseOutcome):
    """One response in progress: `status` is 0 before start_response, `length` is -1 without a Content-Length.

    `block`: the application's lines of the head. `added`: appsrv's lines of the head. `dropped`: the names of dropped
    fields, and the place of the call of start_response.
    """

    __slots__ = (
        *("added", "block", "bodiless", "chunked", "violation", "date", "finished", "has_date", "head", "dropped"),
        *("length", "writer"),
    )

    def __init__(self, head: RequestHead, writer: ResponseOutput, date: bytes) -> None:
        # Every attribute is set here, and without super(). This runs for each request, and reading a class attribute as
        # the default takes five times as long.
        self.status = 0
        self.body_bytes = 0
        self.keep_alive = head.keep_alive
        self.started = self.finished = self.cut = False
        self.error = self.error_id = None
        self.head = head
        self.writer = writer
        self.date = date
        self.length = -1
        self.bodiless = self.chunked = self.has_date = False
        self.violation: str | None = None
        self.dropped: tuple[list[str], str] | None = None
        self.block = self.added = b""

    @property
    def may_be_endless(self) -> bool:
        """Whether start_response was called, and without a Content-Length.

        Before that call, the body being iterated may be a middleware's that has not called the application yet.
        """
        return bool(self.status) and self.length < 0

    # -- called by the application -------------------------------------------------------------------------

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's `start_response`. Raises `ApplicationError` in the caller for a malformed status or header."""
        if exc_info or self.status:
            self._check_restart(exc_info)
        key: tuple[Any, ...] = (status, *headers)
        try:
            known = known_heads.get(key)
        except TypeError:
            known = None  # An element of the key is not hashable: a list in place of a tuple, or not a header at all.
        if known is None:
            known = self._encode(status, key[1:])
        code, self.block, self.length, self.has_date = known
        self.bodiless = code == 204 or code == 304 or self.head.method == "HEAD"
        self.status = code
        return self.write

    def _encode(self, status: str, headers: tuple[Any, ...]) -> EncodedHead:
        """Encode a head that is not in the cache: a new one, or one with hop-by-hop fields."""
        head, fields = encode_head(status, headers)
        if fields is not None:
            self.dropped = fields.names, dropped_headers.place_of_call()
            self.keep_alive = self.keep_alive and not fields.close
        return head

    def _check_restart(self, exc_info: ExcInfo | None) -> None:
        if not exc_info:
            raise ApplicationError("start_response was called a second time without exc_info")
        # PEP 3333: with exc_info the application replaces a head that was not sent yet. If the head was sent, its
        # exception is raised again, so that the response is cut off.
        if self.started and exc_info[1] is not None:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.started:
            raise ApplicationError("start_response was called again after the response had begun")
        self.status, self.length = 0, -1

    def write(self, data: bytes) -> None:
        """PEP 3333's `write` callable; the pieces of an iterable body are sent by it as well."""
        if not isinstance(data, bytes):
            raise ApplicationError(f"a piece of the response body is not bytes: {type(data).__name__}")
        if self.finished:  # The application kept `write`. The writer may be sending another response by now.
            raise ApplicationError("write was called after the response had ended")
        if not data:
            self.writer.send_piece(b"", False)
            return
        head = b"" if self.started else self._start_stream()
        self.writer.send_piece(head + self._framed(data), self.chunked)

    # -- the ways to send a body ---------------------------------------------------------------------------

    def send_whole(self, data: bytes) -> None:
        """Send a complete body, together with its head."""
        if (
            len(data) == self.length
            and type(data) is bytes
            and self.keep_alive
            and self.head.version == "1.1"
            and not (self.started or self.bodiless or self.has_date)
            and self.length <= _MAX_JOINED_BYTES
        ):
            # Nearly every response takes this path. The condition above has already established the results of `_fit`
            # and `_start`, so their calls are saved.
            self.started = True
            self.body_bytes = self.length
            self.writer.send(b"".join((self.block, b"Date: ", self.date, b"\r\n\r\n", data)))
            self.finished = True
        else:
            self._send_whole(data)

    def _send_whole(self, data: bytes) -> None:
        if self.started or not isinstance(data, bytes):
            self.send_all((data,))
            return
        if len(data) != self.length:
            data = self._fit(data)
        head = self._start()
        if self.bodiless:
            data = b""
        self.body_bytes = len(data)
        if len(data) <= _MAX_JOINED_BYTES:
            self.writer.send(head + data)
        else:
            self.writer.send(head)
            self.writer.send(data)
        self.finished = True

    def send_all(self, body: Iterable[bytes]) -> None:
        """Send an iterable piece by piece. PEP 3333: a piece is sent before the next one is requested."""
        # `stream_cutter` finds this function on the stack of another thread (`STREAMS`), and reads `self` in its frame.
        for data in body:
            self.write(data)
            if self.violation is not None or (self.started and self.bodiless):
                break
        self._finish()

    def send_stream(self, body: StreamedBody) -> None:
        """Send the head at once, then each piece as it arrives from the upstream."""
        self.writer.send(self._start_stream() + (self._framed(body.first) if body.first else b""))
        if not self.bodiless:
            self.send_all(body.rest)
        else:
            self._finish()

    def send_file(self, wrapper: FileWrapper) -> None:
        """Send a file from its position on: as many bytes as Content-Length says, else up to its end (PEP 3333)."""
        file = plain_file(wrapper.filelike)
        if file is None or self.started:
            self.send_all(wrapper)
            self.violation = None  # PEP 3333: a Content-Length may end the transmission before the end of the file.
            return
        count = file.available if self._checked_length() < 0 else self.length
        if count > file.available and not self.bodiless:
            raise ApplicationError(f"the file has {file.available} bytes left, Content-Length is {count}")
        self._announce(count)
        self._send_part(file.fd, file.offset, 0 if self.bodiless else count)
        self.finished = True

    def _send_part(self, fd: int, offset: int, count: int) -> None:
        if count <= _MAX_READ_BYTES:
            data = os.pread(fd, count, offset)
            if len(data) < count:
                raise ApplicationError("the file became shorter while it was sent")
            self.body_bytes = count
            self.writer.send(self._start() + data)
        else:
            self.writer.send(self._start())
            self.writer.sendfile(fd, offset, count)
            self.body_bytes = count

    # -- framing -------------------------------------------------------------------------------------------

    def _checked_length(self) -> int:
        if not self.status:
            raise ApplicationError("the application did not call start_response")
        return self.length

    def _fit(self, data: bytes) -> bytes:
        """Announce the length of a complete body, or check the body against the application's Content-Length."""
        if self._checked_length() < 0:
            if data or not self.bodiless:
                self._announce(len(data))
        elif not self.bodiless:
            if len(data) < self.length:
                raise ApplicationError(f"the body has {len(data)} bytes, Content-Length is {self.length}")
            return self._truncated(data)
        return data

    def _announce(self, length: int) -> None:
        """Add a Content-Length, unless the application gave one or the status excludes it (RFC 9110 section 8.6)."""
        if self.length < 0 and self.status not in (204, 304):
            self.length = length
            self.added += b"Content-Length: %d\r\n" % length

    def _start_stream(self) -> bytes:
        """The head of a body that is sent piece by piece.

        Without a Content-Length the framing is chunked (RFC 9112 section 7.1), or for HTTP/1.0 the end of the
        connection (section 6.3).
        """
        if self._checked_length() < 0 and not self.bodiless:
            # RFC 9112 section 6.1: Transfer-Encoding must not be sent to a client of an earlier version than 1.1.
            if self.head.version == "1.1":
                self.chunked = True
                self.added += b"Transfer-Encoding: chunked\r\n"
            else:
                self.keep_alive = False
        return self._start()

    def _start(self) -> bytes:
        """The bytes of the head; from this call on the response cannot be replaced by an error page."""
        if not self.keep_alive:
            self.added += b"Connection: close\r\n"
        elif self.head.version == "1.0":
            self.added += b"Connection: keep-alive\r\n"
        if not self.has_date:
            self.added += b"Date: %b\r\n" % self.date
        self.started = True
        return b"%b%b\r\n" % (self.block, self.added)

    def _framed(self, data: bytes) -> bytes:
        """One piece of the body with its framing; bytes beyond the announced length are dropped."""
        if self.bodiless:
            return b""
        if 0 <= self.length < self.body_bytes + len(data):
            data = self._truncated(data)
        self.body_bytes += len(data)
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def _truncated(self, data: bytes) -> bytes:
        self.violation = f"the body is longer than its Content-Length of {self.length}: the rest was dropped"
        return data[: self.length - self.body_bytes]

    def _finish(self) -> None:
        if not self.started:
            if self._checked_length() > 0 and not self.bodiless:
                raise ApplicationError(f"the body is empty, Content-Length is {self.length}")
            if not self.bodiless:
                self._announce(0)
            self.writer.send(self._start())
        elif self.chunked:
            self.writer.send(b"0\r\n\r\n")
        elif self.body_bytes < self.length and not self.bodiless:
            raise ApplicationError(f"the body ended after {self.body_bytes} of {self.length} bytes")
        self.finished = True


STREAMS = _Answer.send_all.__code__
"""The code object on the stack of a thread that iterates over the application's body."""


# -- errors ------------------------------------------------------------------------------------------------


def _fail(answer: _Answer, environ: Environ, error: BaseException, development: bool, log: LogException) -> None:
    """Send an error page if the head was not sent yet, else cut the connection; log the error."""
    if forked_child.IN_CHILD:
        _end_child(answer, error)
    if isinstance(error, SwitchedProtocols):
        answer.status, answer.started, answer.finished, answer.keep_alive = 101, True, True, False
        return
    answer.error = error
    whole, answer.finished = answer.finished, True
    if isinstance(error, ClientDisconnected):
        answer.cut, answer.keep_alive = True, False
        return
    text = ""
    if not isinstance(error, RequestError):
        answer.error_id = error_id_of(environ)
        plain = isinstance(error, NoRoomForResponse | UpstreamError)
        text = f"{error}\n" if plain else _application_traceback(error)
        _log(log, environ, text, answer.error_id)
    if whole:
        return
    if answer.started:
        answer.cut, answer.keep_alive = True, False
        answer.writer.cut()
    else:
        _send_error_page(answer, error, text, development)


def _send_error_page(answer: _Answer, error: BaseException, text: str, development: bool) -> None:
    status, detail, keep_alive = 500, None, answer.head.keep_alive
    if isinstance(error, UpstreamError):
        status, detail = error.status, error.page
    elif isinstance(error, RequestError):
        # The request's body was streamed to the upstream and is not fully read, so the beginning of the next request on
        # this connection is unknown (RFC 9112 section 9.3): the connection has to close.
        status, detail, keep_alive = error.status, error.detail(development=development), False
    head = answer.head
    page = error_response(status, error_id=answer.error_id, detail=detail, traceback=(development and text) or None)
    answer.status, answer.started, answer.keep_alive = status, True, keep_alive
    try:
        answer.writer.send(serialize(page, keep_alive=keep_alive, head=head, date=answer.date))
    except ClientDisconnected:
        answer.cut, answer.keep_alive = True, False
        return
    answer.body_bytes = 0 if head.method == "HEAD" else len(page.body)


def _log_violation(answer: _Answer, environ: Environ, log: LogException) -> None:
    """Log a response that was sent well formed, but differs from the application's: its body was cut off."""
    answer.error = ApplicationError(answer.violation)
    answer.error_id = error_id_of(environ)
    _log(log, environ, _application_traceback(answer.error), answer.error_id)


def _log(log: LogException, environ: Environ, text: str, error_id: str) -> None:
    try:
        log(environ, text, error_id)
    except Exception:
        # `wsgi.errors` may be a stream of the application. An error in writing to it must not change the response.
        own_lines.complain(f"wsgi.errors cannot be written to; error {error_id} is\n{text.rstrip()}")


def _application_traceback(error: BaseException) -> str:
    """The traceback without appsrv's frames at its beginning: the reader looks for the application's."""
    frames = own_frames.without_own(error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, frames))
