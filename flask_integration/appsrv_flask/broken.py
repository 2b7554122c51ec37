"""A Flask application that cannot be loaded, after a change: the debugger's page or a plain one, which heals itself."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appsrv.http import self_reloading_page

WSGIApplication = Callable[..., Iterable[bytes]]
AccessLog = Callable[[Mapping[str, Any], int, int, float], None]

PATIENCE = 2.0
"""Seconds that a page's question is kept: not long, for it has one of the worker's threads meanwhile."""

MOST_KEPT = 4
"""Questions kept at a time; the other threads are for pages and the debugger."""


def raising(error: Exception) -> WSGIApplication:
    """An application that only raises, so that the debugger shows the error."""

    raised_at = error.__traceback__

    def application(environ: object, start_response: object) -> Iterable[bytes]:
        # Each raising adds its frames to those that the error has: not those of the requests before.
        raise error.with_traceback(raised_at) from None

    return application


class Healing:
    """In front of an application that raises what kept the real one from loading."""

    def __init__(self, application: WSGIApplication, error: Exception) -> None:
        self.failure = f"{time.time():.6f}"
        self._application = application
        self._error = error
        self._changed = threading.Event()
        self._room = threading.BoundedSemaphore(MOST_KEPT)

    def changed(self) -> None:
        """A file has changed: pages are to ask for the next generation."""
        self._changed.set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self_reloading_page.is_poll_about(environ, self.failure):
            return self._answer_poll(start_response)
        started: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            answer = self._application(environ, lambda status, fields, *_: started.append((status, list(fields))))
            body = b"".join(answer)
        except Exception:
            # Without a debugger.
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
        # Not the style sheets and answers of the console.
        if status.startswith("500"):
            body = body.replace(b"<head>", b"<head>" + self_reloading_page.script(self.failure).encode(), 1)
            fields = [(name, value) for name, value in fields if name.lower() != "content-length"]
            fields += [("Content-Length", str(len(body))), (self_reloading_page.FIELD, self.failure)]
        start_response(status, fields)
        return [body]

    def _answer_poll(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._room.acquire(blocking=False):
            try:
                self._changed.wait(PATIENCE)
            finally:
                self._room.release()
        fields = [] if self._changed.is_set() else [(self_reloading_page.FIELD, self.failure)]
        start_response("204 No Content", [*fields, ("Cache-Control", "no-store")])
        return []

    def logging(self, log: AccessLog) -> AccessLog:
        """The access log without the questions."""

        def log_request(environ: Mapping[str, Any], status: int, size: int, started: float) -> None:
            if not self_reloading_page.is_poll_about(environ, self.failure):
                log(environ, status, size, started)

        return log_request
