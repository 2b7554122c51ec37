"""The access log of `flask run`: Werkzeug's own code writes the lines to its own logger, `werkzeug`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.serving import WSGIRequestHandler


def log_request(environ: Mapping[str, Any], status: int, size: int, started: float) -> None:
    """Log one answered request. Werkzeug writes "-" for the size."""
    handler = WSGIRequestHandler.__new__(WSGIRequestHandler)
    vars(handler).update(
        environ=environ,
        client_address=None,
        command=environ["REQUEST_METHOD"],
        path=environ.get("RAW_URI", ""),
        request_version=environ["SERVER_PROTOCOL"],
    )
    handler.log_request(status)
