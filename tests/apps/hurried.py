"""An application that sets a timeout for all new sockets of its process, as clients of slow services do.

`/big` answers more than a socket takes, anything else the pid.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BIG = 20 << 20
socket.setdefaulttimeout(0.2)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [bytes(BIG) if environ["PATH_INFO"] == "/big" else str(os.getpid()).encode()]
