"""The outage of an application that cannot serve: each request is answered at once with the reason, or an error id.

Makes the answers. Does not know when an outage begins or ends (`availability`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from appsrv.http import self_reloading_page
from appsrv.http.response import Response
from appsrv.server.frontend.backend import BackEnd
from appsrv.server.pool.error_pages import failure_page
from appsrv.server.pool.handles import Failure
from appsrv.wsgi import probe
from appsrv.wsgi.request_id import new_error_id

log = logging.getLogger("appsrv.outage")


class Outage:
    """The outage of one application group. In development the page shows the reason, else an error id for the log.

    `probe_path`: the path of health probes, which get one line of plain text.
    """

    def __init__(self, group: str, backend: BackEnd, *, development: bool, probe_path: str | None) -> None:
        self._group = group
        self._probe_path = probe_path
        self._backend = backend
        self._development = development
        self._message = ""

    def begin(self, failure: Failure) -> None:
        """Answer all requests with this failure, those that wait included. The same reason keeps its error id."""
        if self._backend.fallback.active and failure.message == self._message:
            return
        self._message = failure.message
        error_id = new_error_id()
        if not self._development:
            log.error("error id %s: all requests to %s are answered 503: %s", error_id, self._group, failure.message)
        self._backend.fall_back(partial(self._answer, failure, error_id))

    def _answer(self, failure: Failure, error_id: str, variables: Mapping[str, str]) -> Response | None:
        if probe.is_probe(variables, self._probe_path):
            reason = f"the application cannot be started: the reason is in the server log (error id {error_id})"
            return probe.answer(variables["REQUEST_METHOD"], reason)
        if self._development and self_reloading_page.is_poll_about(variables, failure.name):
            return None
        return failure_page(failure, error_id, variables, development=self._development)

    def end(self) -> None:
        """A worker is ready or will be soon: requests wait for it."""
        self._backend.fallback.end()
