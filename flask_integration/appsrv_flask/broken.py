"""The page about a Flask application that cannot be loaded after a change: the debugger's or a plain one.

The page reloads itself when the code has changed (`self_reloading_page`).
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appsrv.http import self_reloading_page

WSGIApplication = Callable[..., Iterable[bytes]]
AccessLog = Callable[[Mapping[str, Any], int, int, float], None]

POLL_HOLD_SECONDS = 2.0
"""The time for which a poll of a page is held. It is short, because the poll occupies a thread of the worker."""

MAX_HELD_POLLS = 4
"""The number of polls held at a time; the other threads serve pages and the debugger."""


def raising(error: Exception) -> WSGIApplication:
    """An application that raises the error for each request, so that the debugger shows it."""

    raised_at = error.__traceback__

    def application(environ: object, start_response: object) -> Iterable[bytes]:
        # Each `raise` adds frames to the error's traceback. Without the reset it would show those of earlier requests.
        raise error.with_traceback(raised_at) from None

    return application


class SelfReloadingError:
    """A middleware around the application of `raising`: makes its pages reload themselves, and answers their polls."""

    def __init__(self, application: WSGIApplication, error: Exception) -> None:
        self.failure = f"{time.time():.6f}"
        self._application = application
        self._error = error
        self._changed = threading.Event()
        self._poll_slots = threading.BoundedSemaphore(MAX_HELD_POLLS)

    def changed(self) -> None:
        """A file has changed: end the held polls, so that the pages ask for the next generation."""
        self._changed.set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self_reloading_page.is_poll_about(environ, self.failure):
            return self._answer_poll(start_response)
        started: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            answer = self._application(environ, lambda status, fields, *_: started.append((status, list(fields))))
            body = b"".join(answer)
        except Exception:
            # The exception arrives here only without a debugger.
            text = "".join(traceback.format_exception(self._error))
            title = f"The application cannot be loaded: {self._error}"
            page = self_reloading_page.page(title, text, self.failure, environ)
            start_response(f"{page.status} {page.reason}", page.headers)
            return [page.body]
        status, fields = started[-1]
        return self._with_script(status, fields, body, start_response)

    def _with_script(
        self, status: str, fields: list[tuple[str, str]], body: bytes, start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        # Only error pages get the script, not the debugger's style sheets and console responses.
        if status.startswith("500"):
            body = body.replace(b"<head>", b"<head>" + self_reloading_page.script(self.failure).encode(), 1)
            fields = [(name, value) for name, value in fields if name.lower() != "content-length"]
            fields += [("Content-Length", str(len(body))), (self_reloading_page.FIELD, self.failure)]
        start_response(status, fields)
        return [body]

    def _answer_poll(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        # A poll beyond the limit is answered at once; its page polls again.
        if self._poll_slots.acquire(blocking=False):
            try:
                self._changed.wait(POLL_HOLD_SECONDS)
            finally:
                self._poll_slots.release()
        fields = [] if self._changed.is_set() else [(self_reloading_page.FIELD, self.failure)]
        start_response("204 No Content", [*fields, ("Cache-Control", "no-store")])
        return []

    def without_polls(self, log: AccessLog) -> AccessLog:
        """The access log without the polls of pages."""

        def log_request(environ: Mapping[str, Any], status: int, size: int, started: float) -> None:
            if not self_reloading_page.is_poll_about(environ, self.failure):
                log(environ, status, size, started)

        return log_request
