"""Large bodies, in (POST) and out (GET of the file named by the environment)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BLOCK = 65536


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "POST":
        return receive(environ, start_response)
    path = os.environ["BENCHMARK_FILE"]
    size = str(os.path.getsize(path))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", size)])
    file = open(path, "rb")  # noqa: SIM115 - the server closes it
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](file, BLOCK)  # type: ignore[no-any-return]
    return iter(lambda: file.read(BLOCK), b"")


def receive(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    left = int(environ["CONTENT_LENGTH"])
    while left and (block := environ["wsgi.input"].read(min(left, BLOCK))):
        left -= len(block)
    body = b"%d\n" % left
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
