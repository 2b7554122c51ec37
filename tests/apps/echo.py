"""Answers with what it was given: the environ's strings, and length and digest of the body, as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BLOCK = 65536


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    size, digest = 0, hashlib.sha256()
    while block := environ["wsgi.input"].read(BLOCK):
        size += len(block)
        digest.update(block)
    seen = {key: value for key, value in environ.items() if isinstance(value, str | int | bool)}
    answer = {"environ": seen, "size": size, "sha256": digest.hexdigest(), "pid": os.getpid()}
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
