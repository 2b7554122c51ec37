"""One WSGI application with one path per thing a server has to get right."""

from __future__ import annotations

import hashlib
import html
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
View = Callable[[Environ, StartResponse], Iterable[bytes]]

TEXT = ("Content-Type", "text/plain; charset=utf-8")
HTML = ("Content-Type", "text/html; charset=utf-8")
MAX_STREAM = 10_000

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>WSGI on appsrv</title>
<style>
  body { font: 1.05rem/1.6 system-ui, sans-serif; color: #223 }
  body { max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
  code, button, input { font: inherit } code { background: #eef; padding: .1em .3em; border-radius: .3em }
  li { margin: .4rem 0 } a { color: #2456c9 }
</style>
<h1>WSGI on appsrv</h1>
<p>Answered by process <code>%(pid)d</code>.</p>
<ul>%(paths)s</ul>
<form method="post" action="/upload" enctype="multipart/form-data">
  <p><input type="file" name="file"> <button>Upload</button></p>
</form>
</html>
"""


def index(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """What there is to see."""
    paths = "".join(
        f'<li><a href="{path}"><code>{path}</code></a> &ndash; {html.escape(view.__doc__ or "")}</li>'
        for path, view in VIEWS.items()
    )
    body = (PAGE % {"pid": os.getpid(), "paths": paths}).encode()
    start_response("200 OK", [HTML, ("Content-Length", str(len(body)))])
    return [body]


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A short text."""
    body = b"Hello, world!\n"
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The request's body comes back; without one, its query string."""
    body = read_body(environ) or environ.get("QUERY_STRING", "").encode("latin-1")
    content_type = environ.get("CONTENT_TYPE") or TEXT[1]
    start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


def upload(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Reads what is sent without keeping it: its length and SHA-256."""
    length, digest = 0, hashlib.sha256()
    while block := environ["wsgi.input"].read(64 * 1024):
        length += len(block)
        digest.update(block)
    start_response("200 OK", [TEXT])
    return [f"{length} bytes\nsha256 {digest.hexdigest()}\n".encode()]


def download(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A file, sent through wsgi.file_wrapper."""
    file = open(__file__, "rb")  # noqa: SIM115 - the server closes it when it is sent
    length = os.fstat(file.fileno()).st_size
    disposition = ("Content-Disposition", 'attachment; filename="wsgi.py"')
    start_response("200 OK", [TEXT, ("Content-Length", str(length)), disposition])
    return environ.get("wsgi.file_wrapper", _blocks)(file, 64 * 1024)


def _blocks(file: io.BufferedReader, size: int) -> Iterator[bytes]:
    with file:
        yield from iter(lambda: file.read(size), b"")


def stream(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Lines that come one by one (?lines=20&seconds=0.2)."""
    lines = min(int(number(environ, "lines", 20)), MAX_STREAM)
    pause = number(environ, "seconds", 0.2)
    start_response("200 OK", [TEXT])
    return _lines(lines, pause)


def _lines(count: int, pause: float) -> Iterator[bytes]:
    for line in range(count):
        if line:
            time.sleep(pause)
        yield f"line {line + 1} of {count}\n".encode()


def write(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The old way: the write() that start_response returns."""
    emit = start_response("200 OK", [TEXT])
    emit(b"written, ")
    return [b"then returned\n"]


def print_(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Writes to stdout, stderr, wsgi.errors and from a child process: see the server log."""
    print("print() writes to stdout")
    print("and this goes to stderr", file=sys.stderr)
    environ["wsgi.errors"].write("wsgi.errors is the server log too\n")
    subprocess.run(["echo", "a child process has the same stdout"], check=False)
    return hello(environ, start_response)


def environ_(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI environment of this request."""
    body = "".join(f"{key} = {environ[key]!r}\n" for key in sorted(environ)).encode()
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def slow(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Takes its time (?seconds=1): watch the pool grow when several wait."""
    time.sleep(number(environ, "seconds", 1.0))
    return hello(environ, start_response)


def error(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Raises an exception: a page for the visitor, the traceback in the server log."""
    raise RuntimeError("this path raises on purpose")


def not_found(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """No such path."""
    start_response("404 Not Found", [TEXT])
    return [b"Nothing here.\n"]


def number(environ: Environ, name: str, default: float) -> float:
    """A number of the query string, within reason."""
    try:
        value = float(parse_qs(environ.get("QUERY_STRING", ""))[name][0])
    except (KeyError, ValueError):
        return default
    return min(max(value, 0.0), 3600.0) if value == value else default


def read_body(environ: Environ) -> bytes:
    """The whole body: appsrv ends the input where the body ends, sent with a length or in chunks."""
    return bytes(environ["wsgi.input"].read())


VIEWS: dict[str, View] = {
    "/hello": hello,
    "/echo": echo,
    "/upload": upload,
    "/download": download,
    "/stream": stream,
    "/write": write,
    "/print": print_,
    "/environ": environ_,
    "/slow": slow,
    "/error": error,
}


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI callable."""
    path = environ.get("PATH_INFO", "/")
    view = index if path == "/" else VIEWS.get(path, not_found)
    return view(environ, start_response)
