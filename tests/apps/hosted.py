"""Tells who serves: one of several applications of an instance.

`/sleep?S` takes so long, `/hold?PATH` until there is a file of that name, `/die` ends the worker, `/large?N` has N
bytes more.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

NAME = os.path.basename(os.path.dirname(os.path.abspath(__file__)))


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    path = environ["PATH_INFO"]
    print(f"{NAME} serves {path}")
    if path == "/sleep":
        time.sleep(float(environ["QUERY_STRING"]))
    while path == "/hold" and not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.002)
    if path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    length = len(environ["wsgi.input"].read())
    words = [NAME, environ["SCRIPT_NAME"], path, length, os.getpid(), os.getuid(), os.environ.get("KEY", "")]
    body = "|".join(map(str, words)).encode()
    if path == "/large":
        body += bytes(int(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
