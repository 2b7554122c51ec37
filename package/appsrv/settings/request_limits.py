"""The limits of the request parser (`http.syntax.Limits`), each with the value of its setting.

It knows neither connections nor the response to a request beyond a limit.
"""

from __future__ import annotations

from appsrv.http.syntax import Limits
from appsrv.settings.table import Settings


def limits_of(settings: Settings) -> Limits:
    """The limits of a request's head, body and trailers, in bytes (`header_count`: in fields)."""
    return Limits(
        request_line=settings.max_request_line_size,
        header_line=settings.max_header_field_size,
        header_block=settings.max_header_size,
        header_count=settings.max_header_fields,
        body=settings.max_body_size,
        trailer_block=settings.max_trailer_size,
    )
