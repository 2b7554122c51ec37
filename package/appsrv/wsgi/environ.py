"""The WSGI environ of a request (PEP 3333, RFC 3875). Pure: all values are arguments, and it opens no files."""

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
    """The part of the environ that all requests on one listener have in common.

    `server_name` is None on a unix socket: `build_environ` then takes name and port from the Host of each request.
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

    `content_length`: the number of bytes in `input`, which is known once a chunked body is spooled; None: no body.
    """
    environ = base | head.variables
    environ["wsgi.input"] = input
    environ["REMOTE_ADDR"] = remote_addr
    environ["REMOTE_PORT"] = remote_port
    if content_length is not None:
        environ["CONTENT_LENGTH"] = str(content_length)
        # The body is complete and decoded by now. With Transfer-Encoding left in place the application might try to
        # decode it again (RFC 9112 section 7.1.3).
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    if environ["SCRIPT_NAME"]:
        cut_mount_point(environ)
    if "SERVER_NAME" not in environ:
        name_server_by_host(environ)
    return environ


def cut_mount_point(environ: Environ) -> None:
    """Remove SCRIPT_NAME from the beginning of PATH_INFO, if PATH_INFO begins with it."""
    mount, path = environ["SCRIPT_NAME"], environ["PATH_INFO"]
    if (path + "/").startswith(mount + "/"):
        environ["PATH_INFO"] = path[len(mount) :]


def name_server_by_host(environ: Environ) -> None:
    """Set SERVER_NAME and SERVER_PORT from Host; without a port in Host, the default port of the scheme."""
    host = environ.get("HTTP_HOST", "localhost")
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    environ["SERVER_NAME"] = name
    environ["SERVER_PORT"] = port or _DEFAULT_PORTS[environ["wsgi.url_scheme"]]
