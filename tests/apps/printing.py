"""Every way a program has of writing to stdout and stderr, each under its own path; the query is the text."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

libc = ctypes.CDLL(None)


def in_pieces(text: str) -> None:
    """One line that arrives in several writes."""
    for character in text:
        os.write(1, character.encode())
    os.write(1, b"\n")


def from_c(text: str) -> None:
    libc.printf(b"%s\n", text.encode())
    libc.fflush(None)


def from_child(text: str) -> None:
    subprocess.run(["/bin/sh", "-c", 'echo "$0"; echo "$0" >&2', text], check=True)


def long_line(text: str) -> None:
    print(text * 20_000, flush=True)


def with_traceback(text: str) -> None:
    try:
        raise ValueError(f"no such product {text}")
    except ValueError:
        # In many small writes.
        traceback.print_exc()


WAYS: dict[str, Callable[[str], object]] = {
    "/print": print,
    "/stderr": lambda text: print(text, file=sys.stderr),
    "/write": lambda text: os.write(1, f"{text}\n".encode()),
    "/write2": lambda text: os.write(2, f"{text}\n".encode()),
    "/pieces": in_pieces,
    "/c": from_c,
    "/child": from_child,
    "/long": long_line,
    "/traceback": with_traceback,
    "/unfinished": lambda text: os.write(1, text.encode()),
    "/bytes": lambda text: os.write(1, b"\xff\xfe" + text.encode() + b"\n"),
    "/nul": lambda text: print(text, chr(0), text),
    "/bar": lambda text: print(f"\r 10%\r 50%\r100% {text}"),
    "/many": lambda text: [print(text, number) for number in range(2000)],
}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/errors":
        environ["wsgi.errors"].write(unquote(environ["QUERY_STRING"]) + "\n")
        environ["wsgi.errors"].flush()
    else:
        WAYS.get(environ["PATH_INFO"], str)(unquote(environ["QUERY_STRING"]))
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
