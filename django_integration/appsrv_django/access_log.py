"""The access log of runserver: Django's own code writes the lines to its own logger, `django.server`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django.core.servers.basehttp import WSGIRequestHandler

_handler = WSGIRequestHandler.__new__(WSGIRequestHandler)
_handler.request = cast(Any, None)


def log_request(environ: Mapping[str, Any], status: int, size: int, started: float) -> None:
    """Log one answered request; `size`: the length of the body in bytes."""
    line = f"{environ['REQUEST_METHOD']} {environ.get('RAW_URI', '')} {environ['SERVER_PROTOCOL']}"
    _handler.log_message('"%s" %s %s', line, str(status), str(size))
