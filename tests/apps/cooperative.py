"""For the concurrency model gevent: `/sleep?0.1`, `/child` (waits for a process), `/fetch?URL`; else what it is.

`/meet?3` answers once so many are there, `/hold?x` creates the file `x.begun` and answers once `x.release` exists.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# As applications do that ask for their version while they are imported.
subprocess.run(["true"], check=True)
met: list[object] = []


def meet(count: int) -> None:
    met.append(None)
    while len(met) < count:
        time.sleep(0.01)


def hold(name: str) -> None:
    Path(f"{name}.begun").touch()
    while not Path(f"{name}.release").exists():
        time.sleep(0.01)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    what, argument = environ["PATH_INFO"], environ["QUERY_STRING"]
    if what == "/sleep":
        time.sleep(float(argument))
        body = b"slept"
    elif what == "/meet":
        meet(int(argument))
        body = b"met"
    elif what == "/hold":
        hold(argument)
        body = b"held"
    elif what == "/child":
        body = subprocess.run(["sh", "-c", "sleep 0.1; echo done"], capture_output=True, check=True).stdout
    elif what == "/fetch":
        with urllib.request.urlopen(argument, timeout=10) as answer:
            body = answer.read()
    elif what == "/body":
        body = environ["wsgi.input"].read()
    else:
        body = json.dumps(
            {
                "pid": os.getpid(),
                "multithread": environ["wsgi.multithread"],
                "multiprocess": environ["wsgi.multiprocess"],
                "thread": type(threading.current_thread()).__name__,
                "sleep": time.sleep.__module__,
            }
        ).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
