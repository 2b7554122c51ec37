"""The time in which an application cannot serve at all: every request is answered at once with the reason, or its id.

Knows pages, not what is broken or mended.
"""

from __future__ import annotations

import logging
import secrets

from appsrv.frontend import FrontEnd
from appsrv.handles import Failure
from appsrv.refusals import failure_page

log = logging.getLogger("appsrv.outage")

ALL = 1 << 16


class Outage:
    """Of one application group. In development the page shows the reason, else an error id that the log has too."""

    def __init__(self, group: str, frontend: FrontEnd, *, development: bool) -> None:
        self._group = group
        self._frontend = frontend
        self._development = development
        self._message = ""

    def begin(self, failure: Failure) -> None:
        """No worker serves: those that wait are answered too. The id stays the same as long as the reason does."""
        if self._frontend.fallback is not None and failure.message == self._message:
            return
        self._message = failure.message
        error_id = secrets.token_hex(4)
        if not self._development:
            log.error("error id %s: all requests to %s are answered 503: %s", error_id, self._group, failure.message)
        page = failure_page(failure, error_id, development=self._development)
        self._frontend.fallback = lambda: page
        self._frontend.refuse_waiting(ALL, page)

    def end(self) -> None:
        """There is a worker, or will be soon: requests may wait for it."""
        self._frontend.fallback = None
