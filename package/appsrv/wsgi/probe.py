"""The probe: the address that a load balancer asks whether to send requests here, answered without the application.

`probe_path`, not `health_path`: that one appsrv asks, and the application answers. A worker answers the probe while
there are workers, the front end when there are none; both as `answer` says. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from appsrv.http.response import Response, reason_of

PROBED = "appsrv.probe"
"""In the environ of a request that was answered here: it is neither counted nor in the access log."""

STOPPING = "stopping"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def answer(method: str, reason: str = "") -> Response:
    """200 `ok`; 503 where there is a `reason` to send requests elsewhere; 405 to all but GET and HEAD."""
    if method not in ("GET", "HEAD"):
        return _plain(405, "This can be read only.", ("Allow", "GET, HEAD"))
    return _plain(503, reason) if reason else _plain(200, "ok")


def _plain(status: int, text: str, *more: tuple[str, str]) -> Response:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *more]
    return Response(status, reason_of(status), headers, f"{text}\n".encode(), unlogged=True)


def is_probe(variables: Mapping[str, Any], path: str | None) -> bool:
    """Whether the request with these CGI variables asks for `path`, with whatever query."""
    return path is not None and variables.get("PATH_INFO") == path


def with_probe(application: Application, path: str | None, stopping: Sequence[int]) -> Application:
    """`application`, but for the requests for `path`. `stopping`: one byte, not zero when the instance is to end."""
    if path is None:
        return application

    def probed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != path:
            return application(environ, start_response)
        environ[PROBED] = True
        said = answer(environ["REQUEST_METHOD"], STOPPING if stopping[0] else "")
        start_response(f"{said.status} {said.reason}", [*said.headers, ("Content-Length", str(len(said.body)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else said.body]

    return probed
