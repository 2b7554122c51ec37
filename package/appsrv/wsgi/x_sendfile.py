"""X-Sendfile and X-Accel-Redirect: the application names a file, and appsrv sends it.

This is a WSGI middleware, installed only if the settings name directories. Without it the fields are passed on, for a
proxy in front of appsrv. `run` sends the bytes: by sendfile(2), and a drain lane takes over the rest of the file for a
slow client, so that no worker waits.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from appsrv.errors import ApplicationError
from appsrv.http.conditional import Part, Representation, part_for
from appsrv.http.response import error_response, reason_of
from appsrv.system.safe_open import OutsideRoot, open_below
from appsrv.wsgi.environ import Environ
from appsrv.wsgi.file_wrapper import FileWrapper
from appsrv.wsgi.request_id import error_id_of
from appsrv.wsgi.run import log_to_errors

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Headers = list[tuple[str, str]]

# Fields that describe the application's empty body, and fields that are instructions for nginx.
_REPLACED = frozenset(
    {
        *("x-sendfile", "x-accel-redirect", "x-accel-buffering", "x-accel-charset", "x-accel-expires"),
        *("x-accel-limit-rate", "content-length", "etag", "last-modified", "accept-ranges", "content-range"),
    }
)


# Media types by the names that `mimetypes` gives to encodings.
_COMPRESSED_TYPES = {
    "gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz", "br": "application/x-brotli",
}  # fmt: skip


def with_x_sendfile(
    application: WSGIApplication, roots: Sequence[str], mounts: Sequence[str]
) -> WSGIApplication:
    """`application`, with X-Sendfile for files below `roots` and X-Accel-Redirect for `mounts` (`/prefix/=DIR`).

    The application itself if both are empty.
    """
    return _XSendfile(application, roots, mounts) if roots or mounts else application


class _XSendfile:
    """The middleware: replaces the responses that name a file by that file."""

    def __init__(self, application: WSGIApplication, roots: Sequence[str], mounts: Sequence[str]) -> None:
        self._application = application
        self._roots = [os.fsencode(root) for root in roots]
        pairs = [mount.split("=", 1) for mount in mounts]
        # In reverse order a longer prefix stands before a shorter one that it begins with, so the longest match wins.
        self._mounts = sorted(((prefix.encode(), os.fsencode(place)) for prefix, place in pairs), reverse=True)
        self._openers: dict[str, Callable[[str], int]] = {}
        if roots:
            self._openers["x-sendfile"] = self._open_path
        if mounts:
            self._openers["x-accel-redirect"] = self._open_uri

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start = _Start(start_response, self._openers)
        body = self._application(environ, start)
        if not start.called:
            # A generator runs up to its first piece only when that is requested. The headers have to be known before,
            # because they decide whether the file or this body is sent.
            body = _StartedBody(body)
        if not start.named:
            return body
        _close(body)
        return self._answer(environ, start)

    def _answer(self, environ: Environ, start: _Start) -> Iterable[bytes]:
        if len(start.named) > 1:
            raise ApplicationError("the response names more than one file to send")
        field, value = start.named[0]
        try:
            fd = self._openers[field.lower()](value)
        except OutsideRoot as error:
            raise ApplicationError(f"{field} {value!r} is not below a directory that may be sent from") from error
        except FileNotFoundError as error:
            return _not_found(environ, start, f"{field} {value!r}: {error}")
        return _send(environ, start, os.fdopen(fd, "rb"))

    def _open_path(self, value: str) -> int:
        path = value.encode("latin-1")
        if not path.startswith(b"/"):
            raise ApplicationError(f"X-Sendfile is not an absolute path: {value!r}")
        for root in self._roots:
            # `open_beneath` follows no link out of the root, so a link that is created between a check and the opening
            # cannot lead to another file.
            with contextlib.suppress(OutsideRoot):
                return open_below(root, path)
        raise OutsideRoot(value)

    def _open_uri(self, value: str) -> int:
        uri = unquote_to_bytes(value.partition("?")[0].encode("latin-1"))
        if b"\0" in uri:
            raise ApplicationError(f"X-Accel-Redirect has a NUL character: {value!r}")
        for prefix, directory in self._mounts:
            if uri.startswith(prefix):
                return open_below(directory, uri[len(prefix) :].lstrip(b"/"))
        raise OutsideRoot(value)


class _Start:
    """The `start_response` that the application gets. It stores a response that names a file, and does not start it."""

    def __init__(self, start_response: Callable[..., Any], fields: Iterable[str]) -> None:
        self.real = start_response
        self.called = False
        self.status = ""
        self.headers: Headers = []
        self.named: Headers = []
        self._fields = fields
        self.exc_info: Any = None

    def __call__(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], Any]:
        self.called = True
        self.named = [pair for pair in headers if self._names_a_file(pair)]
        if not self.named:
            write: Callable[[bytes], Any] = self.real(status, headers, exc_info)
            return write
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return _discard

    def _names_a_file(self, pair: object) -> bool:
        # Malformed headers are reported by the real start_response.
        return isinstance(pair, tuple) and len(pair) == 2 and str(pair[0]).lower() in self._fields

    def kept(self) -> Headers:
        """The application's fields that are sent together with the file."""
        return [pair for pair in self.headers if pair[0].lower() not in _REPLACED]


def _discard(data: bytes) -> None:
    """The `write` callable of a response that names a file: discards the application's own body."""


class _StartedBody:
    """The body of an application that calls start_response only with its first piece, as a generator does."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        try:
            self._rest = iter(body)
            self._first = [piece for piece in (next(self._rest, None),) if piece is not None]
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        yield from self._first
        yield from self._rest

    def close(self) -> None:
        """Close the application's body."""
        _close(self._body)


def _close(body: object) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


# -- answers ----------------------------------------------------------------------------------------------------------


def _send(environ: Environ, start: _Start, file: Any) -> Iterable[bytes]:
    status = os.fstat(file.fileno())
    whole = Representation(f'"{status.st_mtime_ns:x}-{status.st_size:x}"', int(status.st_mtime), status.st_size)
    part = _part(environ, start.status, whole)
    if part.status in (200, 206):
        _start_file(start, whole, part)
        file.seek(part.start)
        return FileWrapper(file)
    file.close()
    described = [pair for pair in start.kept() if not pair[0].lower().startswith("content-")]
    headers = [*described, *_validators(whole)]
    if part.status == 416:
        headers.append(("Content-Range", f"bytes */{whole.size}"))
    start.real(f"{part.status} {reason_of(part.status)}", headers, start.exc_info)
    return []


def _part(environ: Environ, status: str, whole: Representation) -> Part:
    """The part of the file to send. RFC 9110 section 13.2.1: conditions apply only where the answer would be 2xx."""
    if environ["REQUEST_METHOD"] in ("GET", "HEAD") and status.startswith("200"):
        return part_for(environ["REQUEST_METHOD"], environ, whole)
    return Part(200, 0, whole.size)


def _start_file(start: _Start, whole: Representation, part: Part) -> None:
    headers = start.kept()
    if not any(field.lower() == "content-type" for field, _ in headers):
        headers.append(("Content-Type", _type_of(*start.named[0])))
    headers += [*_validators(whole), ("Accept-Ranges", "bytes"), ("Content-Length", str(part.length))]
    status = start.status
    if part.status == 206:
        status = f"206 {reason_of(206)}"
        headers.append(("Content-Range", f"bytes {part.start}-{part.start + part.length - 1}/{whole.size}"))
    start.real(status, headers, start.exc_info)


def _type_of(field: str, value: str) -> str:
    """The media type of the named file. A compressed file has the type of its compression: it is sent as it is."""
    name = value.partition("?")[0] if field.lower() == "x-accel-redirect" else value
    kind, packed = mimetypes.guess_type(name)
    return (_COMPRESSED_TYPES.get(packed) if packed is not None else kind) or "application/octet-stream"


def _validators(whole: Representation) -> Headers:
    return [("ETag", whole.etag), ("Last-Modified", formatdate(whole.modified, usegmt=True))]


def _not_found(environ: Environ, start: _Start, reason: str) -> Iterable[bytes]:
    error_id = error_id_of(environ)
    log_to_errors(environ, f"{reason}\n", error_id)
    page = error_response(404, error_id=error_id)
    start.real(f"{page.status} {page.reason}", page.headers, start.exc_info)
    return [page.body]
