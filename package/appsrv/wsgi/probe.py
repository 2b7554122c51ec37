"""The probe: a path that a load balancer polls to decide whether to send requests here; appsrv answers it itself.

The setting is `probe_path`. Do not confuse it with `health_path`, which appsrv requests and the application answers. A
worker answers the probe; the front end does so while there are no workers. Both use `answer`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from appsrv.http.response import Response, reason_of

PROBED = "appsrv.probe"
"""Key in the environ of a probe request: it is neither counted nor written to the access log."""

STOPPING = "stopping"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def answer(method: str, reason: str = "") -> Response:
    """The response to a probe: 200 `ok`, or 503 with the `reason` to send no requests here.

    405 for any method but GET and HEAD (RFC 9110 section 15.5.6).
    """
    if method not in ("GET", "HEAD"):
        return _plain(405, "Method not allowed: use GET.", ("Allow", "GET, HEAD"))
    return _plain(503, reason) if reason else _plain(200, "ok")


def _plain(status: int, text: str, *more: tuple[str, str]) -> Response:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *more]
    return Response(status, reason_of(status), headers, f"{text}\n".encode(), unlogged=True)


def is_probe(variables: Mapping[str, Any], path: str | None) -> bool:
    """Whether the request with these CGI variables is for `path`; its query does not matter."""
    return path is not None and variables.get("PATH_INFO") == path


def with_probe(application: Application, path: str | None, stopping: Sequence[int]) -> Application:
    """`application`, with requests for `path` answered here.

    `stopping`: shared memory of one byte, not zero once the instance is stopping. No middleware if `path` is None.
    """
    if path is None:
        return application

    def probed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != path:
            return application(environ, start_response)
        environ[PROBED] = True
        response = answer(environ["REQUEST_METHOD"], STOPPING if stopping[0] else "")
        headers = [*response.headers, ("Content-Length", str(len(response.body)))]
        start_response(f"{response.status} {response.reason}", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else response.body]

    return probed
