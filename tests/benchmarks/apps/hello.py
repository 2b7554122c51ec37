"""No work at all: what is measured is the server. `/slow` takes 100 ms."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = b"Hello, world!\n"
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.1)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def who(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """When and where the request began (a clock all processes share), after which it takes 100 ms."""
    body = f"{os.getpid()} {time.clock_gettime(time.CLOCK_MONOTONIC)}".encode()
    time.sleep(0.1)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
