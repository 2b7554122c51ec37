"""The error responses of the server itself, where no worker can or may answer. Pure; they contain no secrets."""

from __future__ import annotations

from collections.abc import Mapping

from appsrv.http import self_reloading_page
from appsrv.http.response import Response, error_response
from appsrv.server.pool.handles import Failure

RETRY_AFTER_SECONDS = 5


def busy_page() -> Response:
    """503: the queue is full."""
    return error_response(503, retry_after=RETRY_AFTER_SECONDS)


def too_late_page() -> Response:
    """504: no worker was free in time."""
    return error_response(504, detail="The server is too busy to answer in time. Please try again in a moment.")


def overdue_page(error_id: str) -> Response:
    """504: the application took longer than max_request_time."""
    return error_response(504, error_id=error_id)


def failure_page(
    failure: Failure, error_id: str, variables: Mapping[str, str], *, development: bool
) -> Response:
    """No worker can be made. In development the page shows the reason, else a 503 with an error id and Retry-After.

    `variables`: the variables of the request, by their CGI names.
    """
    if not development:
        detail = "The application cannot be started. The reason is in the server log."
        return error_response(503, detail=detail, error_id=error_id, retry_after=RETRY_AFTER_SECONDS)
    return self_reloading_page.page(failure.message, failure.traceback, failure.name, variables)
