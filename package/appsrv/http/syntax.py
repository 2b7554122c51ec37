"""The syntax of HTTP/1.1: the parsed request head, the limits of its parts, and the bytes that each part may contain.

Data and pure functions only. Reads no stream, raises no error, and knows neither httptools nor WSGI.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the parts of a request. Sizes are in bytes and include line ends."""

    request_line: int = 8190
    header_line: int = 16 * 1024
    header_block: int = 64 * 1024
    header_count: int = 100
    leading_blank_lines: int = 8
    body: int = 1024 * 1024 * 1024
    chunk_line: int = 1024
    chunk_extensions: int = 16 * 1024
    trailer_block: int = 8 * 1024


class RequestHead(NamedTuple):
    """A request line and its header fields, already validated (RFC 9112 sections 3, 5 and 6).

    `raw` is the head as sent, with the empty line at its end. `variables` has the CGI variables of PEP 3333 and RFC
    3875: method, target, path and query, and the header fields by CGI name, with repeated fields joined, unusable
    fields left out, and HTTP_HOST from an absolute target. `content_length` is None without that field.
    `body_expected`: body bytes follow the head on the wire. `forwarded`: a field of `FORWARDING` is among the
    variables. `underscored`: a field was left out because its name contains an underscore.
    """

    method: str
    target: bytes
    version: str
    raw: bytes
    variables: dict[str, str]
    content_length: int | None
    chunked: bool
    keep_alive: bool
    expect_continue: bool
    upgrade: bool
    body_expected: bool
    forwarded: bool = False
    underscored: bool = False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header fields as sent, in their order, without the white space around values."""
        lines = self.raw.split(b"\r\n")[1:-2]
        return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


# Fields in which proxies describe the client and its request, by CGI names. Only those of trusted proxies reach the
# application.
FORWARDING = frozenset(
    ["HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_SCHEME", "HTTP_FRONT_END_HTTPS", "HTTP_X_REQUEST_ID"]
    + [f"HTTP_X_FORWARDED_{what}" for what in ("FOR", "HOST", "PORT", "PREFIX", "SERVER")]
    + [f"HTTP_X_FORWARDED_{what}" for what in ("PROTO", "PROTOCOL", "SCHEME", "SSL")]
)

# Common methods, which need no validation. Every other token is a valid method, too (RFC 9110 section 9.1), except
# CONNECT, which only a proxy can serve (section 9.3.6).
METHODS: dict[bytes, str] = {
    name.encode(): name
    for name in (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "COPY", "LOCK", "MKCOL"),
        *(
            "MOVE",
            "PROPFIND",
            "PROPPATCH",
            "SEARCH",
            "UNLOCK",
            "BIND",
            "REBIND",
            "UNBIND",
            "ACL",
            "REPORT",
            "MERGE",
        ),
        *("MKACTIVITY", "CHECKOUT", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "MKCALENDAR"),
        *("LINK", "UNLINK", "SOURCE", "QUERY"),
    )
}

# Fields that describe the connection and not the message (RFC 9110 section 7.6.1). They are not forwarded: the server
# and a generic application have another connection, and a WSGI application has none (PEP 3333).
HOP_BY_HOP_FIELDS = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization"),
    }
)

# The regular expression of a token, such as a method or a field name (RFC 9110 section 5.6.2).
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TOKEN = re.compile(TOKEN.encode())
# A field value: visible characters, spaces, tabs and bytes above ASCII (RFC 9110 section 5.5).
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# Host names and addresses in common use. RFC 3986 section 3.2.2 also allows quotes, commas and escapes.
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{0,5}))?")
_DIGITS = re.compile(r"[0-9]{1,18}")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")


def is_token(name: bytes) -> bool:
    """Whether `name` is a token: a valid method or field name."""
    return _TOKEN.fullmatch(name) is not None


def is_field_value(value: bytes) -> bool:
    """Whether `value` has no control characters."""
    return _VALUE.fullmatch(value) is not None


def is_host(value: str) -> bool:
    """Whether `value` is a host with an optional port."""
    match = _HOST.fullmatch(value)
    return match is not None and int(match[2] or 0) < 65536 and (match[1] is None or _is_ipv6(match[1]))


def _is_ipv6(address: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return False
    return True


def is_version(word: bytes) -> bool:
    """Whether `word` is an HTTP version, supported or not."""
    return _VERSION.fullmatch(word) is not None


def length_of(value: str) -> int | None:
    """The number in a Content-Length; None if it has anything but digits, such as a sign or a list."""
    return int(value) if _DIGITS.fullmatch(value) else None


def split_list(value: str) -> list[str]:
    """The lower-case members of a comma-separated field (RFC 9110 section 5.6.1)."""
    return [member.strip(" \t").lower() for member in value.split(",")]
