"""Responses of appsrv's own: errors as response objects and small HTML pages, and their bytes.

No I/O. Responses of the application are written by `wsgi`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus

from appsrv.http.syntax import RequestHead

__all__ = ["Response", "error_response", "http_date", "reason_of", "serialize"]

# HTTP dates are English in every locale (RFC 9110 section 5.6.7). `email.utils` has these names, too, but loads 16
# modules.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. `headers` has no Content-Length, Date and Connection, which `serialize` adds.

    `unlogged`: the response is neither counted nor written to the access log.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    error_id: str | None = None
    unlogged: bool = False


def http_date(now: float) -> bytes:
    """The value of a Date field at `now`, seconds since the epoch (RFC 9110 section 5.6.7)."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(now)
    date = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04}"
    return f"{date} {hour:02}:{minute:02}:{second:02} GMT".encode("ascii")


def serialize(response: Response, *, keep_alive: bool, head: RequestHead | None, date: bytes | None = None) -> bytes:
    """The bytes of `response` to the request with `head`, None if the request could not be parsed.

    A response to HEAD has no body (RFC 9110 section 9.3.2).
    """
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    lines.append(f"Content-Length: {len(response.body)}")
    lines.append(f"Date: {(date or http_date(time.time())).decode('ascii')}")
    if not keep_alive:
        lines.append("Connection: close")
    elif head is not None and head.version == "1.0":
        lines.append("Connection: keep-alive")
    text = "\r\n".join(lines) + "\r\n\r\n"
    bodiless = head is not None and head.method == "HEAD"
    return text.encode("latin-1") + (b"" if bodiless else response.body)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
{in_head}<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; }}
body {{ max-width: {width}; margin: 12vh auto; padding: 0 1.5rem; }}
h1 {{ font-size: 1.5rem; }}
pre {{ font-size: .85rem; overflow-x: auto; padding: 1rem; background: #f4f4f4; }}
.id {{ color: #666; }}
</style>
</head>
<body>
<h1>{title}</h1>
{paragraphs}
</body>
</html>
"""

_EXPLANATIONS = {
    500: "The application failed to answer this request. The reason is in the server log.",
    502: "The process that was answering this request ended too early. The reason is in the server log.",
    503: "The server is busy or starting. Please try again in a moment.",
    504: "The application took too long to answer.",
    507: "The server has no room left to keep this request.",
}


def error_response(
    status: int,
    *,
    error_id: str | None = None,
    detail: str | None = None,
    traceback: str | None = None,
    retry_after: int | None = None,
    in_head: str = "",
) -> Response:
    """The page for an error response of appsrv's own.

    `detail` replaces the usual explanation of this status. `traceback` is for development only. `retry_after` is in
    seconds. `in_head` is HTML for the head of the page.
    """
    reason = reason_of(status)
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    explanation = detail or _EXPLANATIONS.get(status)
    import html  # Imported here: its tables of entities are needed for error pages only.

    paragraphs = [f"<p>{html.escape(explanation)}</p>"] if explanation else []
    if traceback:
        paragraphs.append(f"<pre>{html.escape(traceback)}</pre>")
    if error_id:
        paragraphs.append(f'<p class="id">Error id: {html.escape(error_id)}</p>')
    page = _PAGE.format(
        title=f"{status} {reason}",
        in_head=in_head and f"{in_head}\n",
        width="60rem" if traceback else "36rem",
        paragraphs="\n".join(paragraphs),
    )
    return Response(status, reason, headers, page.encode("utf-8", "replace"), error_id)


def reason_of(status: int) -> str:
    """The reason phrase of a status code."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
