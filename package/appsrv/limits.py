"""What a client may do, as the settings say it, for those who see to it: sizes, times and room for what has to wait.

Joins names of settings to fields, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from appsrv.http_syntax import Limits
from appsrv.settings import Settings
from appsrv.sink import ResponseBuffer
from appsrv.spool import Spool


def limits_of(settings: Settings) -> Limits:
    """How much a request may have of everything."""
    return Limits(
        request_line=settings.max_request_line_size,
        header_line=settings.max_header_field_size,
        header_block=settings.max_header_size,
        header_count=settings.max_header_fields,
        body=settings.max_body_size,
        trailer_block=settings.max_trailer_size,
    )


def response_buffer_of(settings: Settings) -> ResponseBuffer:
    """Where a response waits for its client, and how long a worker does."""
    return ResponseBuffer(
        memory=settings.response_buffer_memory,
        size=settings.response_buffer_size,
        directory=settings.data_buffer_dir,
        pause=settings.body_timeout,
        rate=settings.min_data_rate,
    )


def request_spool_of(settings: Settings) -> Callable[[], Spool]:
    """Makes the place where a request's body waits until it is whole."""
    memory, directory = settings.request_buffer_memory, settings.data_buffer_dir
    return lambda: Spool(memory, directory)
