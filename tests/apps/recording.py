"""Answers with what it was given, body included, as JSON; the file `seen` gets a line for each request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    with open("seen", "a", encoding="latin-1") as seen:
        seen.write(f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI']}\n")
    strings = {key: value for key, value in environ.items() if isinstance(value, str)}
    body = environ["wsgi.input"].read().decode("latin-1")
    answer = json.dumps({"environ": strings, "body": body}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
