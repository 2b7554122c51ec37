"""Request ids: one word by which a request is found again in the access log, the server log and on an error page.

A proxy that is trusted may bring one in X-Request-ID, else it is made here: random for the process, counted within it.
The application finds it as HTTP_X_REQUEST_ID and `appsrv.wsgi.request_id`. Pure, but for the randomness.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

FIELD = "HTTP_X_REQUEST_ID"
KEY = "appsrv.request_id"

# What proxies and tracing systems use (UUIDs, W3C and AWS trace ids, base64), and nothing a log could stumble over.
_VALID = re.compile(r"[0-9A-Za-z._~+/=:@-]{1,128}")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def is_valid(given: str) -> bool:
    """Whether a word may be a request id: 1 to 128 characters, letters, digits and `._~+/=:@-`."""
    return _VALID.fullmatch(given) is not None


def with_request_id(application: Application) -> Application:
    """`application`, with an id in the environ of each request. To be called in the process that serves."""
    # Made by one chain of calls in C: this is on the way of every request.
    new = map(f"{os.urandom(6).hex()}-".__add__, map(str, itertools.count(1))).__next__

    def identified(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # Whose word does not count has had it taken away (module `forwarded`).
        if FIELD in environ and is_valid(environ[FIELD]):
            environ[KEY] = environ[FIELD]
        else:
            environ[FIELD] = environ[KEY] = new()
        return application(environ, start_response)

    return identified


def error_id_of(environ: dict[str, Any]) -> str:
    """What to call an error of this request on its page and in the log."""
    return environ.get(KEY) or new_error_id()


def new_error_id() -> str:
    """For an error that is not of one request with an id: eight hexadecimal digits, on its pages and in the log."""
    return os.urandom(4).hex()
