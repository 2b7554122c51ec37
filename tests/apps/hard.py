"""What the hard cases need: requests that last as long as a test wants, large bodies, failures in mid-body.

`/hold?name=x` creates the file `x.begun` and answers once `x.release` exists; `/big` answers more than a socket takes;
`/raise` fails; `/die` and `/cut` begin a body without a length, which a kill or an exception ends. Anything else
answers the pid. Every path is written to the file `asked`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BIG = 20 << 20


def hold(name: str) -> None:
    begun = Path(f"{name}.begun.new")
    begun.write_text(str(os.getpid()))
    begun.rename(f"{name}.begun")
    while not Path(f"{name}.release").exists():
        time.sleep(0.002)


def broken_off(path: str) -> Iterator[bytes]:
    yield b"the first half, "
    if path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("raised after the first half")


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    with open("asked", "a", encoding="ascii") as asked:
        asked.write(f"{path}\n")
    if path in ("/die", "/cut"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return broken_off(path)
    if path == "/raise":
        raise ValueError("raised before anything was answered")
    if path == "/hold":
        hold(parse_qs(environ["QUERY_STRING"])["name"][0])
    body = bytes(BIG) if path == "/big" else str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
