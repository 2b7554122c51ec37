"""The responses that the front end sends while no worker can answer: the same to all requests, until `end`.

Some requests are answered only when the application is back: `respond` keeps them. This module knows requests by their
CGI variables. It knows no connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gevent.event import Event

from appsrv.http import self_reloading_page
from appsrv.http.response import Response, error_response

Answer = Callable[[Mapping[str, str]], Response | None]
"""What to answer a request, by its CGI variables; None: keep it."""


class Fallback:
    """Inactive until `begin`. `respond` may block its greenlet."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._over = Event()

    @property
    def active(self) -> bool:
        """Whether requests are answered here."""
        return self._answer is not None

    def begin(self, answer: Answer) -> None:
        """Answer with this function from now on. Requests that another one has kept are answered."""
        self.end()
        self._answer = answer

    def end(self) -> None:
        """Pass requests to workers again. Requests that were kept are answered."""
        self._answer = None
        self._over.set()
        self._over = Event()

    def respond(self, variables: Mapping[str, str]) -> Response:
        """The response to one request: at once, or after at most `self_reloading_page.LONG_POLL_SECONDS`."""
        answer, over = self._answer, self._over
        if answer is None:
            return error_response(503, retry_after=1)
        response = answer(variables)
        if response is not None:
            return response
        if over.wait(self_reloading_page.LONG_POLL_SECONDS):
            return self_reloading_page.changed()
        return answer({}) or self_reloading_page.changed()
