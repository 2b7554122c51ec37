"""What the tests behind real web servers ask for, by path; anything else answers as `echo` does.

`/redirect` leads to `/there` of this application, `/download` is DOWNLOAD bytes, `/broken` ends before its end,
`/film` and `/named?path=` name a file for whoever sends it (X-Accel-Redirect, X-Sendfile).
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING
from wsgiref.util import application_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BLOCK = bytes(range(256)) * 256
DOWNLOAD = 512 * len(BLOCK)


def redirect(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    there = application_uri(environ).rstrip("/") + "/there"
    start_response("302 Found", [("Location", there), ("Content-Length", "0")])
    return []


def download(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(DOWNLOAD))])
    return (BLOCK for _ in range(DOWNLOAD // len(BLOCK)))


def broken(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return _half()


def _half() -> Iterator[bytes]:
    yield b"the first half, "
    raise ValueError("on purpose")


def film(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "video/mp4"), ("X-Accel-Redirect", "/protected/film.mp4")])
    return []


def named(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["QUERY_STRING"].removeprefix("path=")
    start_response("200 OK", [("Content-Type", "video/mp4"), ("X-Sendfile", path)])
    return []


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    answer = {"environ": seen, "size": len(body), "sha256": hashlib.sha256(body).hexdigest(), "pid": os.getpid()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


WAYS: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "/redirect": redirect, "/download": download, "/broken": broken, "/film": film, "/named": named,
}  # fmt: skip


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return WAYS.get(environ["PATH_INFO"], echo)(environ, start_response)
