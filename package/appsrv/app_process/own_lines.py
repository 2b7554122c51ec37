"""Log lines of appsrv's own in a process of the application: they are written to descriptor 2, which the watchdog
reads.

`sys.stdout` and `sys.stderr` belong to the application, which may set them to None, close them or replace them by any
object; it may also patch `os.write`. So appsrv's own code in such a process never prints through them, and flushes them
by `flush` only. Knows no process and no request.
"""

from __future__ import annotations

import io
import sys
import traceback
from os import write as _write
from typing import IO, Any, TextIO

_STDERR_FD = 2


def complain(text: str) -> None:
    """Write a line for the operator, such as an error."""
    write(f"appsrv: {text}\n")


def write_traceback(error: BaseException) -> None:
    """Write the traceback of an exception."""
    write("".join(traceback.format_exception(error)))


def write(text: str) -> None:
    """Write whole lines. Errors are ignored: without a reader or a descriptor 2, the lines are lost."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[_write(_STDERR_FD, data) :]
    except OSError:
        return


def flush() -> None:
    """Flush the standard streams. Errors are ignored."""
    for stream in standard_streams():
        try:
            stream.flush()
        except Exception:
            # The stream may be an object of the application, which raises any exception.
            continue


def prepare_exit() -> None:
    """Replace standard streams that cannot be flushed, before the process ends.

    Python exits with the code 120 if it cannot flush `sys.stdout` or `sys.stderr`.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            stream.flush()
        except Exception:
            if stream is not None:
                setattr(sys, name, _Unflushed(stream))


class _Unflushed:
    """A proxy for a stream of the application that cannot be flushed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def flush(self) -> None:
        """Does nothing."""


def standard_streams() -> list[Any]:
    """The present and the original objects for standard output and error, without duplicates."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return list({id(stream): stream for stream in streams if stream is not None}.values())


def pipes() -> list[io.TextIOWrapper]:
    """The standard streams of Python's own class that write to descriptor 1 or 2."""
    streams = (stream for stream in standard_streams() if isinstance(stream, io.TextIOWrapper))
    return [stream for stream in streams if _number(stream) in (1, _STDERR_FD)]


def _number(stream: IO[str]) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1


def error_stream() -> TextIO:
    """The stream for `wsgi.errors` (PEP 3333): `sys.stderr`, or, if that is no stream, one that writes to descriptor 2.
    """
    if _is_stream(sys.stderr):
        return sys.stderr
    return open(_STDERR_FD, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _is_stream(found: object) -> bool:
    methods = (getattr(found, name, None) for name in ("write", "writelines", "flush"))
    return all(map(callable, methods)) and not getattr(found, "closed", False)
