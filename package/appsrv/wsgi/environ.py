"""The WSGI environ of a request (PEP 3333, RFC 3875). Pure: it is told everything, and opens nothing."""

from __future__ import annotations

from typing import Any, TextIO

from appsrv.http.syntax import RequestHead
from appsrv.wsgi.file_wrapper import FileWrapper

__all__ = ["Environ", "build_environ", "cut_mount_point", "environ_base", "name_server_by_host"]

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
    environ = base | head.variables
    environ["wsgi.input"] = input
    environ["REMOTE_ADDR"] = remote_addr
    environ["REMOTE_PORT"] = remote_port
    if content_length is not None:
        environ["CONTENT_LENGTH"] = str(content_length)
        # The body is whole by now: how it came is nobody's business any more.
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    if environ["SCRIPT_NAME"]:
        cut_mount_point(environ)
    if "SERVER_NAME" not in environ:
        name_server_by_host(environ)
    return environ


def cut_mount_point(environ: Environ) -> None:
    """Take SCRIPT_NAME off the beginning of PATH_INFO, where it is there."""
    mount, path = environ["SCRIPT_NAME"], environ["PATH_INFO"]
    if (path + "/").startswith(mount + "/"):
        environ["PATH_INFO"] = path[len(mount) :]


def name_server_by_host(environ: Environ) -> None:
    """SERVER_NAME and SERVER_PORT as the client named them; a port that Host leaves out is that of the scheme."""
    host = environ.get("HTTP_HOST", "localhost")
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    environ["SERVER_NAME"] = name
    environ["SERVER_PORT"] = port or _DEFAULT_PORTS[environ["wsgi.url_scheme"]]
