"""The access log of one process: a line for each request that the process has answered.

`access_format` makes the line, `access_file` writes it into a file. A process that logs no requests has no such object.
An error in writing a line is reported; it never fails the request. Knows no settings and no connections.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from appsrv.http.response import Response
from appsrv.logs.access_format import Entry, formatter
from appsrv.logs.append_file import AppendFile
from appsrv.logs.line_labels import ACCESS
from appsrv.system import unpatched

Complain = Callable[[str], None]

# Bytes of the first line of a request that breaks the rules: it may be all that fits into a packet.
SHOWN = 2048


class Destination(Protocol):
    """Where lines go."""

    def write(self, line: str) -> None:
        """Append a line."""

    def reopen(self) -> None:
        """Start a new file, if it is one."""


class StandardOutput:
    """This process's standard output, which the server log collects."""

    def write(self, line: str) -> None:
        """Append a line."""
        unpatched.write(1, f"{ACCESS}{line}\n".encode("utf-8", "backslashreplace"))

    def reopen(self) -> None:
        """Nothing to do."""


def destination(path: str, complain: Complain) -> Destination:
    """What writes there."""
    return StandardOutput() if path == "-" else AppendFile(path, complain)


class AccessLog:
    """The lines of one process, in the given format: `combined`, `json` or a text with fields."""

    def __init__(self, line_format: str, to: Destination, complain: Complain) -> None:
        self._to = to
        self._complain = complain
        self._format = formatter(line_format, os.getpid())

    def reopen(self) -> None:
        """Go on in a new file."""
        self._to.reopen()

    def write(self, entry: Entry) -> None:
        """Log one request."""
        try:
            self._to.write(self._format(entry))
        except Exception as error:
            self._complain(f"a line of the access log could not be written: {error!r}")

    def refused(self, address: str, seen: bytes, response: Response) -> None:
        """Log a request that appsrv answered itself; `seen` is what is known of it, from its beginning."""
        request_id = response.error_id or ""
        environ = {"REMOTE_ADDR": address}
        line = first_line(seen)
        self.write(Entry(environ, line, response.status, len(response.body), time.time(), None, None, request_id))


def first_line(seen: bytes) -> str:
    """The first line, or its beginning, of a request of which nobody knows whether it is one."""
    return seen.lstrip(b"\r\n")[:SHOWN].partition(b"\n")[0].rstrip(b"\r").decode("latin-1")
