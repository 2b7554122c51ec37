"""The access log of one process: a line for each request that the process has answered.

`access_format` formats the line, `append_file` appends it to a file. A process that logs no requests has no such
object. An error while a line is written is reported; it never fails the request. Knows no settings and no connections.
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

MAX_FIRST_LINE_BYTES = 2048
"""The most that is logged of the first line of a malformed request, which may be as long as a packet."""


class Destination(Protocol):
    """A file or stream that lines are appended to."""

    def write(self, line: str) -> None:
        """Append a line."""

    def reopen(self) -> None:
        """Open the file again after a rotation. Does nothing for a stream."""


class StandardOutput:
    """This process's standard output, which the server log collects."""

    def write(self, line: str) -> None:
        """Append a line."""
        unpatched.write(1, f"{ACCESS}{line}\n".encode("utf-8", "backslashreplace"))

    def reopen(self) -> None:
        """Does nothing: the watchdog opens the server log again."""


def destination(path: str, complain: Complain) -> Destination:
    """The destination for the setting `access_log`: `-` is standard output, all else the path of a file."""
    return StandardOutput() if path == "-" else AppendFile(path, complain)


class AccessLog:
    """The access log of this process. `line_format` is `combined`, `json` or a text with %-fields."""

    def __init__(self, line_format: str, to: Destination, complain: Complain) -> None:
        self._to = to
        self._complain = complain
        self._format = formatter(line_format, os.getpid())

    def reopen(self) -> None:
        """Open the file again after a rotation."""
        self._to.reopen()

    def write(self, entry: Entry) -> None:
        """Log one request. Never raises: an error is passed to `complain`."""
        try:
            self._to.write(self._format(entry))
        except Exception as error:
            self._complain(f"a line of the access log could not be written: {error!r}")

    def refused(self, address: str, seen: bytes, response: Response) -> None:
        """Log a request that appsrv answered itself. `seen` is the beginning of the request, as far as it was read."""
        request_id = response.error_id or ""
        environ = {"REMOTE_ADDR": address}
        line = first_line(seen)
        entry = Entry(
            environ=environ, line=line, status=response.status, size=len(response.body), started=time.time(),
            service=None, queue=None, request_id=request_id,
        )
        self.write(entry)


def first_line(seen: bytes) -> str:
    """The first line, or its beginning, of bytes that may be no HTTP request."""
    return seen.lstrip(b"\r\n")[:MAX_FIRST_LINE_BYTES].partition(b"\n")[0].rstrip(b"\r").decode("latin-1")
