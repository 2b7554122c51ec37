"""Request ids: the same id marks a request in the access log, in the server log and on an error page.

A trusted proxy may send one in X-Request-ID. Otherwise it is made here: random for each process, and counted within it.
The application reads it as HTTP_X_REQUEST_ID and `appsrv.request_id`. Pure, except for the random bytes.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

FIELD = "HTTP_X_REQUEST_ID"
KEY = "appsrv.request_id"

# The ids of proxies and tracing systems (UUIDs, W3C and AWS trace ids, base64). Spaces, quotes and control characters
# would break the format of a log.
_VALID = re.compile(r"[0-9A-Za-z._~+/=:@-]{1,128}")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def is_valid(given: str) -> bool:
    """Whether a string may be a request id: 1 to 128 characters out of letters, digits and `._~+/=:@-`."""
    return _VALID.fullmatch(given) is not None


def with_request_id(application: Application) -> Application:
    """`application`, with an id in the environ of each request.

    Call this in the worker, after the fork: workers that shared the random bytes would give out the same ids.
    """
    # Every request makes an id, so this is one chain of calls that runs in C.
    new = map(f"{os.urandom(6).hex()}-".__add__, map(str, itertools.count(1))).__next__

    def identified(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # `forwarded` has already removed this header unless a trusted proxy sent it.
        if FIELD in environ and is_valid(environ[FIELD]):
            environ[KEY] = environ[FIELD]
        else:
            environ[FIELD] = environ[KEY] = new()
        return application(environ, start_response)

    return identified


def error_id_of(environ: dict[str, Any]) -> str:
    """The id of an error on its page and in the log: the request's id, or a new one where the request has none."""
    return environ.get(KEY) or new_error_id()


def new_error_id() -> str:
    """An id of eight hexadecimal digits, for an error that belongs to no request with an id."""
    return os.urandom(4).hex()
