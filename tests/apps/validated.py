"""Applications behind `wsgiref.validate`: an AssertionError of the validator becomes a 500."""

from __future__ import annotations

from typing import TYPE_CHECKING
from wsgiref.validate import validator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def body_of(environ: WSGIEnvironment) -> bytes:
    return b"".join(iter(lambda: environ["wsgi.input"].read(8192), b""))


def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    text = b"%s %d" % (environ["REQUEST_METHOD"].encode(), len(body_of(environ)))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [text]


def stream(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield from (b"one ", b"two ", b"three")


def use_write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])(b"written ")
    return [b"returned"]


def read_lines(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    lines = [environ["wsgi.input"].readline(), *environ["wsgi.input"]]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(lines)).encode()]


WAYS = {"/stream": stream, "/write": use_write, "/lines": read_lines}


def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return WAYS.get(environ["PATH_INFO"], answer)(environ, start_response)


application = validator(dispatch)
