"""The WSGI environ of a request (PEP 3333, RFC 3875). Pure: it is told everything, and opens nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TextIO
from urllib.parse import unquote_to_bytes

from appsrv.http_syntax import RequestHead

__all__ = ["Environ", "FileWrapper", "build_environ", "environ_base"]

Environ = dict[str, Any]

_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Readable(Protocol):
    """What `wsgi.file_wrapper` needs of a file."""

    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """`wsgi.file_wrapper`: an iterable over a file, which `wsgi.respond` sends without reading where it can."""

    def __init__(self, filelike: Readable, block_size: int = 64 * 1024) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        while data := self.filelike.read(self.block_size):
            yield data

    def close(self) -> None:
        """Close the file, if it can be."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


def environ_base(
    *,
    server_name: str | None,
    server_port: str | int | None,
    multithread: bool,
    multiprocess: bool,
    errors: TextIO,
    url_scheme: str = "http",
    script_name: str = "",
    software: str = "appsrv",
) -> Environ:
    """What is the same for every request on one listener.

    `server_name` is None on a unix socket: name and port are then taken from each request's Host.
    """
    base: Environ = {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": url_scheme,
        "wsgi.errors": errors,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "SERVER_SOFTWARE": software,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": script_name,
    }
    if server_name is not None:
        base["SERVER_NAME"] = server_name
        base["SERVER_PORT"] = str(server_port)
    if url_scheme == "https":
        base["HTTPS"] = "on"
    return base


def build_environ(
    base: Environ,
    head: RequestHead,
    *,
    input: object,
    content_length: int | None = None,
    remote_addr: str = "",
    remote_port: str = "",
) -> Environ:
    """The environ of one request. `content_length` is that of `input`, known once a chunked body is spooled."""
    environ = base | head.fields
    target = head.target
    raw_path, _, query = target.partition(b"?")
    uri = target.decode("latin-1")
    environ["REQUEST_METHOD"] = head.method
    environ["RAW_URI"] = environ["REQUEST_URI"] = uri
    environ["QUERY_STRING"] = query.decode("latin-1")
    if b"%" in raw_path:
        raw_path = unquote_to_bytes(raw_path)
    environ["PATH_INFO"] = raw_path.decode("latin-1")
    environ["wsgi.input"] = input
    environ["REMOTE_ADDR"] = remote_addr
    environ["REMOTE_PORT"] = remote_port
    if content_length is not None:
        environ["CONTENT_LENGTH"] = str(content_length)
    if not target.startswith(b"/") or environ["SCRIPT_NAME"] or head.chunked or head.version != "1.1":
        _adjust(environ, head)
    if "SERVER_NAME" not in environ:
        _name_server_by_host(environ)
    return environ


def _adjust(environ: Environ, head: RequestHead) -> None:
    """What only some requests need: other forms of target, a mount point, a spooled body, HTTP/1.0."""
    path = head.target.partition(b"?")[0]
    if not path.startswith(b"/"):
        environ["PATH_INFO"] = unquote_to_bytes(_path_of(path)).decode("latin-1")
    mount = environ["SCRIPT_NAME"]
    if mount and (environ["PATH_INFO"] + "/").startswith(mount + "/"):
        environ["PATH_INFO"] = environ["PATH_INFO"][len(mount) :]
    if head.chunked and "CONTENT_LENGTH" in environ:
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["SERVER_PROTOCOL"] = f"HTTP/{head.version}"


def _path_of(target: bytes) -> bytes:
    """The path of a target in asterisk or absolute form; `*` names no path (PEP 3333 wants "/..." or "")."""
    if target == b"*":
        return b""
    authority_and_path = target.partition(b"://")[2]
    return b"/" + authority_and_path.partition(b"/")[2]


def _name_server_by_host(environ: Environ) -> None:
    host = environ.get("HTTP_HOST", "localhost")
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    environ["SERVER_NAME"] = name
    environ["SERVER_PORT"] = port or _DEFAULT_PORTS[environ["wsgi.url_scheme"]]
