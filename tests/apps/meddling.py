"""Writes into each channel that it finds in its process, at import and for each request: an application can."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# The last ones begin with the tag of a packed message, or have its length, too.
JUNK = (
    b"junk", b"\x16{}", b'\x0b{"pid":1}', b"\xff", b"2 x", b"2 things happened\n", b"+ 3 items added today",
    b"+12345678", b"1 of 3 files is missing\n",
)


def meddle() -> int:
    """Send all of JUNK to each SOCK_SEQPACKET socket of this process; returns how many there are."""
    found = 0
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as sock:
            if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                sock.setblocking(False)
                for junk in JUNK:
                    sock.send(junk)
                found += 1
    return found


meddle()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = str(meddle()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
