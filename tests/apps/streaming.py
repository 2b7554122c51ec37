"""Every kind of response body PEP 3333 knows, and some that break it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TEXT = [("Content-Type", "text/plain")]
FILE = Path("download.bin")


class Closing:
    """An iterable that leaves a mark when it is closed; a second close leaves a second mark."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.parts = iter(parts)

    def __iter__(self) -> Iterator[bytes]:
        return self.parts

    def close(self) -> None:
        with open("closed", "a", encoding="ascii") as mark:
            mark.write("closed\n")


def generated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return (f"part {number}\n".encode() for number in range(10))


def written(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    write = start_response("200 OK", TEXT)
    write(b"written ")
    write(b"twice ")
    return [b"and returned"]


def wrapped_file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", str(FILE.stat().st_size))])
    return environ["wsgi.file_wrapper"](FILE.open("rb"), 65536)  # type: ignore[no-any-return]


def wrapped_memory(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"in memory"), 4)  # type: ignore[no-any-return]


def fails_midway(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    yield b"the first half, "
    raise ValueError("raised after the first half")


def fails_with_close(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return Closing(fails_midway(environ, start_response))


def closed_once(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    return Closing([b"clo", b"sed"])


def too_short(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    return [b"short"]


def too_short_in_parts(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    yield from (b"short, ", b"in parts")


def too_long(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"exact", b" and more"]


def empty(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def split_header(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("X-Evil", "a\r\nSet-Cookie: stolen=1")])
    return [b"split"]


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [str(os.getpid()).encode()]


WAYS: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "/generated": generated,
    "/written": written,
    "/file": wrapped_file,
    "/memory": wrapped_memory,
    "/fails": fails_with_close,
    "/closed": closed_once,
    "/short": too_short,
    "/short-stream": too_short_in_parts,
    "/long": too_long,
    "/empty": empty,
    "/split": split_header,
}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return WAYS.get(environ["PATH_INFO"], plain)(environ, start_response)
