"""The WSGI environ of a request (PEP 3333, RFC 3875). Pure: it is told everything, and opens nothing."""

from __future__ import annotations

from typing import Any, TextIO
from urllib.parse import unquote_to_bytes

from appsrv.file_wrapper import FileWrapper
from appsrv.http_syntax import RequestHead

__all__ = ["Environ", "build_environ", "environ_base"]

Environ = dict[str, Any]

_DEFAULT_PORTS = {"http": "80", "https": "443"}


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
    input: object,
    content_length: int | None = None,
    remote_addr: str = "",
    remote_port: str = "",
) -> Environ:
    """The environ of one request.

    `content_length` is that of `input`, known once a chunked body is spooled; None: there is no body.
    """
    environ = base | head.fields
    environ["REQUEST_METHOD"] = head.method
    environ["RAW_URI"] = environ["REQUEST_URI"] = uri = head.target.decode("latin-1")
    path, _, environ["QUERY_STRING"] = uri.partition("?")
    environ["PATH_INFO"] = _unquote(path) if "%" in path else path
    environ["wsgi.input"] = input
    environ["REMOTE_ADDR"] = remote_addr
    environ["REMOTE_PORT"] = remote_port
    if content_length is not None:
        environ["CONTENT_LENGTH"] = str(content_length)
    if path[0] != "/" or environ["SCRIPT_NAME"] or head.chunked or head.version != "1.1":
        _adjust(environ, head, path)
    if "SERVER_NAME" not in environ:
        _name_server_by_host(environ)
    return environ


def _unquote(path: str) -> str:
    """Percent-decoding to what PEP 3333 calls a native string: each character one byte."""
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


def _adjust(environ: Environ, head: RequestHead, path: str) -> None:
    """What only some requests need: other forms of target, a mount point, a spooled body, HTTP/1.0."""
    if path[0] != "/":
        environ["PATH_INFO"] = _unquote(_path_of(path))
    mount = environ["SCRIPT_NAME"]
    if mount and (environ["PATH_INFO"] + "/").startswith(mount + "/"):
        environ["PATH_INFO"] = environ["PATH_INFO"][len(mount) :]
    if head.chunked and "CONTENT_LENGTH" in environ:
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["SERVER_PROTOCOL"] = f"HTTP/{head.version}"


def _path_of(target: str) -> str:
    """The path of a target in asterisk or absolute form; `*` names no path (PEP 3333 wants "/..." or "")."""
    if target == "*":
        return ""
    return "/" + target.partition("://")[2].partition("/")[2]


def _name_server_by_host(environ: Environ) -> None:
    host = environ.get("HTTP_HOST", "localhost")
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    environ["SERVER_NAME"] = name
    environ["SERVER_PORT"] = port or _DEFAULT_PORTS[environ["wsgi.url_scheme"]]
