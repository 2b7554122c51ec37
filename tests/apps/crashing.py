"""Ways to die in the middle of a request, and to fail without dying; `/` answers the pid."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exited() -> None:
    os._exit(7)


def segfault() -> None:
    ctypes.string_at(0)


def system_exit() -> None:
    sys.exit(9)


def raises() -> None:
    raise ValueError("raised before start_response")


WAYS: dict[str, Callable[[], None]] = {
    "/kill": killed,
    "/exit": exited,
    "/segfault": segfault,
    "/system-exit": system_exit,
    "/raise": raises,
}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    WAYS.get(environ["PATH_INFO"], lambda: None)()
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
