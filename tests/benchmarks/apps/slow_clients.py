"""Three paths for clients that are slow: a short answer, one for a body, and 20 MB."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BIG = bytes(20_000_000)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = BIG if environ["PATH_INFO"] == "/big" else b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
