"""Every shape of response that PEP 3333 knows, and every way to break it, by path: `/plain/NAME` as it is,
`/validated/NAME` behind `wsgiref.validate`. Anything else answers the pid.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

TEXT = ("Content-Type", "text/plain")
SMALL, LARGE = Path("small.bin"), Path("large.bin")
ENDINGS = (SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError)


class Closing:
    """An iterator that leaves a line in the file `closed` each time it is closed."""

    def __init__(self, parts: Iterable[bytes], last_words: Callable[[], object] = lambda: None) -> None:
        self._parts = iter(parts)
        self._last_words = last_words

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        with open("closed", "a", encoding="ascii") as mark:
            mark.write("closed\n")
        self._last_words()


def answering(body: Callable[[], Any], *headers: tuple[str, str], status: str = "200 OK") -> WSGIApplication:
    """An application that returns `body()`."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [TEXT, *headers])
        return body()  # type: ignore[no-any-return]

    return app


def bodiless(status: str) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [])
        return []

    return app


def file(path: Path, offset: int = 0, length: int | None = None) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [TEXT] if length is None else [TEXT, ("Content-Length", str(length))])
        opened = path.open("rb")
        opened.seek(offset)
        return environ["wsgi.file_wrapper"](opened, 8192)  # type: ignore[no-any-return]

    return app


def written(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    write = start_response("200 OK", [TEXT])
    write(b"one ")
    write(b"two ")
    return [b"three"]


def replaced(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [TEXT, ("Content-Length", "99")])
    try:
        raise ValueError("before the head")
    except ValueError:
        start_response("503 Sorry", [TEXT], sys.exc_info())
    return [b"sorry"]


def replaced_too_late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])(b"begun")
    try:
        raise ValueError("behind the head")
    except ValueError:
        start_response("503 Sorry", [TEXT], sys.exc_info())
    return [b"never"]


def late_start(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    yield b"one "
    yield b""
    yield b"two"


def raising(error: type[BaseException], parts: Iterable[bytes] = ()) -> Iterator[bytes]:
    yield from parts
    raise error("on purpose")


def raises(error: type[BaseException]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise error("on purpose")

    return app


def fail(error: type[BaseException]) -> Callable[[], object]:
    def last_words() -> None:
        raise error("on purpose")

    return last_words


def write_in_close(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    write = start_response("200 OK", [TEXT])
    return Closing([b"whole"], lambda: write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))


KEPT: list[Callable[[bytes], object]] = []


def keep_write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    KEPT.append(start_response("200 OK", [TEXT]))
    return Closing([b"kept"])


def use_kept_write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    KEPT.pop()(b"somebody else's")
    start_response("200 OK", [TEXT])
    return [b"own"]


def never_read(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    return [b"not read"]


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(65536)


def length(value: object) -> tuple[str, str]:
    return "Content-Length", str(value)


APPS: dict[str, WSGIApplication] = {
    "list": answering(lambda: [b"one ", b"", b"two"]),
    "list-of-one": answering(lambda: [b"one"], length(3)),
    "tuple": answering(lambda: (b"one ", b"two")),
    "nothing": answering(list),
    "generator": late_start,
    "iterator": answering(lambda: Closing([b"one ", b"two"])),
    "iterator-with-length": answering(lambda: Closing([b"one ", b"two"]), length(7)),
    "iterator-of-nothing": answering(lambda: Closing([])),
    "write": written,
    "exc-info": replaced,
    "204": bodiless("204 No Content"),
    "304": bodiless("304 Not Modified"),
    "file-small": file(SMALL),
    "file-small-offset": file(SMALL, 10),
    "file-small-length": file(SMALL, 10, 20),
    "file-large": file(LARGE),
    "file-large-offset": file(LARGE, 100_000),
    "file-large-length": file(LARGE, 100_000, 200_000),
    "file-at-its-end": file(SMALL, 100),
    "file-of-the-kernel": file(Path("/proc/self/status")),
    "never-read": never_read,
    "short": answering(lambda: [b"short"], length(9)),
    "short-iterator": answering(lambda: Closing([b"short"]), length(9)),
    "short-nothing": answering(list, length(9)),
    "short-file": file(SMALL, 0, 101),
    "long": answering(lambda: [b"exactly", b" and more"], length(7)),
    "long-iterator": answering(lambda: Closing([b"exac", b"tly and", b" more"]), length(7)),
    "length-twice": answering(lambda: [b"one"], length(3), length(4)),
    "length-repeated": answering(lambda: [b"one"], length(3), length(3)),
    "list-header": answering(lambda: [b"one"], ["X-A", " b "]),  # type: ignore[arg-type]
    "close": answering(lambda: [b"one"], ("Connection", "close")),
    "close-stream": answering(lambda: Closing([b"one"]), ("Connection", "keep-alive, Close")),
    "hop-stream": answering(lambda: Closing([b"one"]), ("Transfer-Encoding", "chunked"), ("Connection", "keep-alive")),
    "426": answering(lambda: [b"one"], ("Upgrade", "echo"), status="426 Upgrade Required"),
    "length-signed": answering(lambda: [b"one"], length("+3")),
    "length-list": answering(lambda: [b"one"], length("3, 3")),
    "length-spaces": answering(lambda: [b"one"], length(" 3")),
    "inject-value": answering(lambda: [b"x"], ("X-A", "b\r\nSet-Cookie: stolen=1")),
    "inject-bare-cr": answering(lambda: [b"x"], ("X-A", "b\rSet-Cookie: stolen=1")),
    "inject-bare-lf": answering(lambda: [b"x"], ("X-A", "b\nSet-Cookie: stolen=1")),
    "inject-name": answering(lambda: [b"x"], ("X-A: b\r\nSet-Cookie", "stolen=1")),
    "inject-status": answering(lambda: [b"x"], status="200 OK\r\nSet-Cookie: stolen=1"),
    "status-interim": answering(lambda: [b"x"], status="101 Switching Protocols"),
    "not-bytes": answering(lambda: ["text"]),
    "no-body": answering(lambda: None),
    "no-start": lambda environ, start_response: [b"x"],
    "exc-info-late": replaced_too_late,
    "write-in-close": write_in_close,
    "keep-write": keep_write,
    "use-kept-write": use_kept_write,
    "endless": answering(lambda: Closing(endless())),
}
for hop in ("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade"):
    APPS[f"hop-{hop.lower()}"] = answering(lambda: [b"x"], (hop, "x"))
for ending in ENDINGS:
    APPS[f"raise-{ending.__name__}"] = raises(ending)
    APPS[f"raise-first-{ending.__name__}"] = answering(lambda ending=ending: Closing(raising(ending)))  # type: ignore[misc]
    APPS[f"raise-midway-{ending.__name__}"] = answering(
        lambda ending=ending: Closing(raising(ending, [b"the first half"]))  # type: ignore[misc]
    )
    APPS[f"raise-in-close-{ending.__name__}"] = answering(
        lambda ending=ending: Closing([b"whole"], fail(ending))  # type: ignore[misc]
    )

PID: WSGIApplication = answering(lambda: [str(os.getpid()).encode()])
VALIDATED: dict[str, WSGIApplication] = {name: validator(app) for name, app in APPS.items()}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    _, kind, name = ("//" + environ["PATH_INFO"].lstrip("/")).rsplit("/", 2)
    apps = {"plain": APPS, "validated": VALIDATED}.get(kind, {})
    return apps.get(name, PID)(environ, start_response)
