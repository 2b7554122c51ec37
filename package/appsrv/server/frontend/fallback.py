"""What the front end answers while no worker can: the same to all, until the application is there again.

Some requests are to be answered only then: they are kept here. Knows requests by their CGI variables, no connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gevent.event import Event

from appsrv.http import self_reloading_page
from appsrv.http.response import Response, error_response

Answer = Callable[[Mapping[str, str]], Response | None]
"""What to answer a request, by its CGI variables; None: keep it."""


class Fallback:
    """Off until `begin`; `respond` may block its greenlet."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._over = Event()

    @property
    def active(self) -> bool:
        """Whether requests are to be answered here."""
        return self._answer is not None

    def begin(self, answer: Answer) -> None:
        """Answer by this function from now on; what was kept by another one is over."""
        self.end()
        self._answer = answer

    def end(self) -> None:
        """Workers can have the requests again; those that were kept are told."""
        self._answer = None
        self._over.set()
        self._over = Event()

    def respond(self, variables: Mapping[str, str]) -> Response:
        """The answer to one request: at once, or after at most `healing.LONG_POLL_SECONDS`."""
        answer, over = self._answer, self._over
        if answer is None:
            return error_response(503, retry_after=1)
        response = answer(variables)
        if response is not None:
            return response
        if over.wait(self_reloading_page.LONG_POLL_SECONDS):
            return self_reloading_page.changed()
        return answer({}) or self_reloading_page.changed()
