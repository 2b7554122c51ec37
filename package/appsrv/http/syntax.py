"""The words of HTTP/1.1: what a request head is, how large its parts may be, which bytes may stand where.

Data and pure questions only. It reads no stream, raises no error and knows neither httptools nor WSGI.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything a client may send; sizes in bytes, line ends included."""

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
    """A request line and its header fields, already checked (RFC 9112 sections 3, 5 and 6).

    `raw` is the head as sent, with the empty line at its end. `variables` is what it says in the words of PEP 3333
    and RFC 3875: method, target, path and query, and the header fields by their CGI names, repeated ones joined,
    unusable ones left out, HTTP_HOST taken from an absolute target. `content_length` is None when there is no such
    field; `body_expected` says whether body bytes follow the head on the wire, `forwarded` whether a field of
    `FORWARDING` is among the variables, `underscored` whether a field was left out for the underscore in its name.
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


# What proxies say about the client and its request, by CGI names: believed from some, kept from applications otherwise.
FORWARDING = frozenset(
    ["HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_SCHEME", "HTTP_FRONT_END_HTTPS", "HTTP_X_REQUEST_ID"]
    + [f"HTTP_X_FORWARDED_{what}" for what in ("FOR", "HOST", "PORT", "PREFIX", "SERVER")]
    + [f"HTTP_X_FORWARDED_{what}" for what in ("PROTO", "PROTOCOL", "SCHEME", "SSL")]
)

# Methods that need not be checked: those that clients and applications commonly use. Any other token is a method, too
# (RFC 9110 section 9.1), but for CONNECT, which only a proxy can serve.
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

# Fields of a connection, not of the message (RFC 9110 section 7.6.1): between a server and the application, or the
# process behind it, is another connection, or none (PEP 3333).
HOP_BY_HOP_FIELDS = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization"),
    }
)

# A method or the name of a field, as part of a regular expression (RFC 9110 section 5.6.2).
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TOKEN = re.compile(TOKEN.encode())
# A field value: visible characters, spaces, tabs and what is not ASCII (RFC 9110 section 5.5).
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# Names and addresses as people use them: RFC 3986 would also allow quotes, commas and escapes.
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{0,5}))?")
_DIGITS = re.compile(r"[0-9]{1,18}")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")


def is_token(name: bytes) -> bool:
    """Whether `name` may be a method or field name."""
    return _TOKEN.fullmatch(name) is not None


def is_field_value(value: bytes) -> bool:
    """Whether `value` has no control characters."""
    return _VALUE.fullmatch(value) is not None


def is_host(value: str) -> bool:
    """Whether `value` is a host and at most one port, and nothing else."""
    match = _HOST.fullmatch(value)
    return match is not None and int(match[2] or 0) < 65536 and (match[1] is None or _is_ipv6(match[1]))


def _is_ipv6(address: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return False
    return True


def is_version(word: bytes) -> bool:
    """Whether `word` is an HTTP version at all, spoken here or not."""
    return _VERSION.fullmatch(word) is not None


def length_of(value: str) -> int | None:
    """The number in a Content-Length, or None when it is not one: digits alone, no sign, no list."""
    return int(value) if _DIGITS.fullmatch(value) else None


def split_list(value: str) -> list[str]:
    """The lower-case members of a comma-separated field (RFC 9110 section 5.6.1)."""
    return [member.strip(" \t").lower() for member in value.split(",")]
