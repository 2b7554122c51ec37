"""How much of everything a request may have, from the settings.

Gives each limit of the parser (module `http_syntax`) the value of its setting. Knows neither a connection nor what
happens to a request that is larger.
"""

from __future__ import annotations

from appsrv.http.syntax import Limits
from appsrv.settings.table import Settings


def limits_of(settings: Settings) -> Limits:
    """The limits of a request's head, body and trailers."""
    return Limits(
        request_line=settings.max_request_line_size,
        header_line=settings.max_header_field_size,
        header_block=settings.max_header_size,
        header_count=settings.max_header_fields,
        body=settings.max_body_size,
        trailer_block=settings.max_trailer_size,
    )
