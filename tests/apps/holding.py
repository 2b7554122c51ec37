"""Requests that last exactly as long as a test wants.

`/hold?name=x` creates the file `x.begun` and answers once `x.release` exists; anything else answers the pid.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def hold(name: str) -> None:
    Path(f"{name}.begun").write_text(str(os.getpid()))
    while not Path(f"{name}.release").exists():
        time.sleep(0.002)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/hold":
        hold(parse_qs(environ["QUERY_STRING"])["name"][0])
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
