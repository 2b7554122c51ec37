"""Lines of appsrv itself in an application's process: they go to descriptor 2, which the watchdog reads.

`sys.stdout` and `sys.stderr` are the application's. Once it has run they may be None, closed, or any object; so may
`os.write`. appsrv's own code in such a process prints nothing through them, and flushes them by `flush` alone. Knows
no process and no request.
"""

from __future__ import annotations

import io
import sys
import traceback
from os import write as _write
from typing import IO, Any, TextIO

_STDERR_FD = 2


def complain(text: str) -> None:
    """Write a line about something that went wrong or that the operator should know."""
    write(f"appsrv: {text}\n")


def write_traceback(error: BaseException) -> None:
    """Write the traceback of an exception."""
    write("".join(traceback.format_exception(error)))


def write(text: str) -> None:
    """Write whole lines. Without a reader, or a descriptor 2, they are lost, and the caller goes on."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[_write(_STDERR_FD, data) :]
    except OSError:
        return


def flush() -> None:
    """Flush the standard streams, as far as they can be."""
    for stream in standard_streams():
        try:
            stream.flush()
        except Exception:
            # The application's object: what it has not written is its own affair.
            continue


def settle() -> None:
    """Before the process ends: Python exits with the code 120 where it cannot flush `sys.stdout` or `sys.stderr`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            stream.flush()
        except Exception:
            if stream is not None:
                setattr(sys, name, _Unflushed(stream))


class _Unflushed:
    """A stream of the application's that cannot be flushed; for all else it is that stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def flush(self) -> None:
        """Nothing."""


def standard_streams() -> list[Any]:
    """The objects that are, or were at the start, the standard output and error; each of them once."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return list({id(stream): stream for stream in streams if stream is not None}.values())


def pipes() -> list[io.TextIOWrapper]:
    """Those of the standard streams that write to descriptor 1 or 2 and are Python's own kind of stream."""
    streams = (stream for stream in standard_streams() if isinstance(stream, io.TextIOWrapper))
    return [stream for stream in streams if _number(stream) in (1, _STDERR_FD)]


def _number(stream: IO[str]) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1


def error_stream() -> TextIO:
    """`sys.stderr` where it is a stream, else one that writes to descriptor 2: for `wsgi.errors` (PEP 3333)."""
    if _is_stream(sys.stderr):
        return sys.stderr
    return open(_STDERR_FD, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _is_stream(found: object) -> bool:
    methods = (getattr(found, name, None) for name in ("write", "writelines", "flush"))
    return all(map(callable, methods)) and not getattr(found, "closed", False)
