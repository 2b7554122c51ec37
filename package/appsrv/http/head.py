"""Parses request heads: bytes in, a validated `RequestHead` out. No I/O, no clock, no body (see `body`).

httptools parses every head; what it accepts is validated further. A complete head without special fields is parsed by
`_quick_head`. Every other one, and every invalid one, is parsed line by line by `HeadReader`, which decides. Both give
the same result for the same bytes, in whatever pieces these arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import httptools

from appsrv.errors import Limit, RequestError
from appsrv.http.syntax import (
    FORWARDING,
    METHODS,
    Limits,
    RequestHead,
    is_field_value,
    is_host,
    is_token,
    is_version,
    length_of,
    split_list,
)

__all__ = ["HeadReader", "Limits", "RequestHead", "parse_head"]

_MAX_CACHED_FIELDS = 4096
_MAX_CACHED_FIELD_BYTES = 256
_END = b"\r\n\r\n"
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_SLASH, _HASH, _LF = b"/#\n"

# Fields that affect the framing or the trusted origin of a request, and "", the name of fields that are left out. Most
# requests have none of them.
_SPECIAL = FORWARDING | {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_UPGRADE", ""}
# `Proxy` would become HTTP_PROXY, which many programs read as the setting of a proxy (CVE-2016-5385, "httpoxy").
_LEFT_OUT = frozenset({"HTTP_PROXY"})
# Fields that must not be repeated. httptools checks Content-Length, too.
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"})
# httptools rejects bytes above ASCII in a target, and methods that it does not know. So it gets a letter in place of
# each such byte, and this method in place of every other one.
_ASCII = bytes(range(128)) + b"x" * 128
_SHOWN = b"POST"

# Fields with secrets: they must not be cached, or they would stay in memory after their request.
_SECRET = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_PROXY_AUTHORIZATION"})
# These fields are parsed for each request, so the usual spellings have a shorter path.
_SECRET_NAMES = {
    "Cookie": "HTTP_COOKIE",
    "cookie": "HTTP_COOKIE",
    "Authorization": "HTTP_AUTHORIZATION",
    "authorization": "HTTP_AUTHORIZATION",
}

# Parsed header lines. Most lines of most requests repeat earlier ones.
_known_fields: dict[bytes, tuple[str, str]] = {}


def _field_of(line: bytes) -> tuple[str, str]:
    """The CGI name and the value of a header line that httptools has accepted. Caches short lines without secrets.

    Raises RequestError (400).
    """
    text = line.decode("latin-1")
    secret_name, _, secret = text.partition(":")
    if secret_name in _SECRET_NAMES and text.isascii() and text.isprintable():
        return _SECRET_NAMES[secret_name], secret.strip(" ")
    if not is_field_value(line):
        raise RequestError(400, "Control character in a header field")
    name, _, raw_value = line.partition(b":")
    key, value = _cgi_name(name), raw_value.strip(b" \t").decode("latin-1")
    if key == "HTTP_HOST":
        _check_host(value)
    # Unusual spellings of the secret fields are not cached, and neither are fields that are left out: they may hold a
    # token (`X_Token`).
    if key and len(line) <= _MAX_CACHED_FIELD_BYTES and key not in _SECRET:
        if len(_known_fields) >= _MAX_CACHED_FIELDS:
            _known_fields.clear()
        _known_fields[line] = key, value
    return key, value


def _cgi_name(name: bytes) -> str:
    """The CGI name of a header field, "" for one that is left out.

    `X_Real_IP` and `X-Real-IP` would get the same CGI name, so that a client could forge the second one. Names with an
    underscore are therefore left out; `underscored_fields` decides about exceptions.
    """
    if b"_" in name:
        return ""
    key = name.decode("latin-1").upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    return "" if key in _LEFT_OUT else key


def _check_host(host: str) -> None:
    if not is_host(host):
        raise RequestError(400, "Host is not a host name with at most one port")


# -- the fast path -----------------------------------------------------------------------------------------

_MAX_CACHED_HEADS = 512
_MAX_CACHED_HEAD_BYTES = 1024
_seen_heads: dict[bytes, tuple[tuple[RequestHead, int], Limits]] = {}

# Idle parsers, each at the start of a request. `pop` and `append` of a list are atomic: no lock is needed.
_idle_parsers: list[Callable[[bytes], None]] = []


def parse_head(data: bytes, limits: Limits) -> tuple[RequestHead, int] | None:
    """The head at the start of `data` and the offset of its body; None if the head is incomplete.

    Raises RequestError with the status of the response; the connection must then be closed.
    """
    seen = _seen_heads.get(data)
    if seen is not None and seen[1] is limits:
        return seen[0]
    end = data.find(_END) + 4
    if 4 < end <= limits.header_line <= limits.header_block:
        head = _quick_head(data[:end], limits)
        if head is not None:
            if end == len(data) <= _MAX_CACHED_HEAD_BYTES:
                _remember(data, head, limits)
            return head, end
    result = HeadReader(limits).feed(data)
    return None if result is None else (result[0], len(data) - len(result[2]))


def _remember(data: bytes, head: RequestHead, limits: Limits) -> None:
    """Cache a parsed head: proxies, health checks and API clients send the same bytes again.

    A head with a secret is not cached, because the secret would stay in memory after its request.
    """
    if _SECRET.isdisjoint(head.variables) and not head.body_expected:
        if len(_seen_heads) >= _MAX_CACHED_HEADS:
            _seen_heads.clear()
        _seen_heads[data] = ((head, len(data)), limits)


def _quick_head(raw: bytes, limits: Limits) -> RequestHead | None:
    """The head in `raw`, if it has no unusual part. None: it may be valid or not, and `HeadReader` decides."""
    try:
        feed = _idle_parsers.pop()
    except IndexError:
        feed = httptools.HttpRequestParser(None).feed_data
    lines = raw.split(b"\r\n")
    fields: dict[str, str] = {}
    try:
        feed(raw)
        verb, target, protocol = lines[0].split(b" ")
        method = METHODS[verb]
        version = _VERSIONS[protocol]
        for line in lines[1:-2]:
            key, value = _known_fields.get(line) or _field_of(line)
            fields[key] = value
    except (ValueError, KeyError, RequestError, httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    count = len(lines) - 3
    if (
        len(fields) != count
        or count > limits.header_count
        or len(lines[0]) + 2 > limits.request_line
        or target[0] != _SLASH
        or _HASH in target
        or _LF in target  # httptools accepts it as the end of an HTTP/0.9 request line.
        or "HTTP_HOST" not in fields
    ):
        return None
    if version == "1.1" and _SPECIAL.isdisjoint(fields) and fields.get("HTTP_CONNECTION", "keep-alive") == "keep-alive":
        _idle_parsers.append(feed)
        _add_request_line(fields, method, target, version)
        # The same as RequestHead(...), in half of the time.
        return tuple.__new__(
            RequestHead, (method, target, version, raw, fields, None, False, True, False, False, False, False, False)
        )
    head = _framed(method, target, version, raw, fields, limits)
    if head.keep_alive and not head.body_expected and not head.upgrade:
        _idle_parsers.append(feed)
    return head


# -- line by line ------------------------------------------------------------------------------------------


class HeadReader:
    """Parses a head from pieces of any size, line by line. Rejects it at the first invalid or too long line."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._line_start = 0
        self._scanned = 0
        self._blank_lines = 0
        self._head_start = 0
        self._request_line: tuple[str, bytes, str] | None = None
        self._lines: list[bytes] = []
        self._parser = httptools.HttpRequestParser(None)

    @property
    def started(self) -> bool:
        """Whether anything but empty lines was received."""
        return len(self._buffer) > self._head_start

    def feed(self, data: bytes) -> tuple[RequestHead, bytes, bytes] | None:
        """(the head, its bytes, the bytes after it); None until it is complete. Raises RequestError."""
        self._buffer += data
        while True:
            self._check_first_byte()
            newline = self._buffer.find(b"\n", self._scanned)
            end = newline + 1 or len(self._buffer)
            self._check_size(end)
            self._scanned = end
            if newline < 0:
                return None
            line = bytes(self._buffer[self._line_start : end])
            self._line_start = end
            if self._take_line(line):
                raw = bytes(self._buffer[self._head_start : end])
                return self._finish(raw), raw, bytes(self._buffer[end:])

    def _check_first_byte(self) -> None:
        # A TLS ClientHello or other binary data may contain no line end: reject it by its first byte.
        if self._request_line is None and len(self._buffer) > self._line_start:
            first = self._buffer[self._line_start]
            if first not in b"\r\n" and not is_token(bytes((first,))):
                raise RequestError(400, "This is not an HTTP request")

    def _check_size(self, end: int) -> None:
        length = end - self._line_start
        if self._request_line is None:
            if length > self._limits.request_line:
                raise _beyond(414, "Request line too long", "max_request_line_size", self._limits.request_line)
        elif length > self._limits.header_line:
            raise _beyond(431, "Header line too long", "max_header_field_size", self._limits.header_line)
        elif end - self._head_start > self._limits.header_block:
            raise _beyond(431, "Header block too large", "max_header_size", self._limits.header_block)

    def _take_line(self, line: bytes) -> bool:
        """Process one complete line. Returns True for the last line of the head."""
        if not line.endswith(b"\r\n"):
            raise RequestError(400, "Line does not end with CR LF")
        if self._request_line is None:
            self._take_first_line(line)
            return False
        self._check_line(_with_spaces(line) if b"\t" in line else line)
        if line == b"\r\n":
            return True
        self._lines.append(line[:-2])
        if len(self._lines) > self._limits.header_count:
            raise _beyond(431, "Too many header fields", "max_header_fields", self._limits.header_count)
        return False

    def _take_first_line(self, line: bytes) -> None:
        if line != b"\r\n":
            self._request_line = _request_line(line[:-2])
            self._check_line(_SHOWN + line[line.index(b" ") :].translate(_ASCII))
            return
        self._head_start = self._line_start
        self._blank_lines += 1
        if self._blank_lines > self._limits.leading_blank_lines:
            raise RequestError(400, "Too many empty lines before the request")

    def _check_line(self, line: bytes) -> None:
        try:
            self._parser.feed_data(line)
        except httptools.HttpParserUpgrade:
            pass  # The head is complete. A server may ignore the upgrade that it requests (RFC 9110 section 7.8).
        except httptools.HttpParserError as error:
            raise RequestError(400, str(error)) from None

    def _finish(self, raw: bytes) -> RequestHead:
        assert self._request_line is not None
        method, target, version = self._request_line
        fields = _join_fields(self._lines)
        if "HTTP_HOST" not in fields and version == "1.1":
            raise RequestError(400, "Host is missing")
        if not target.startswith((b"/", b"*")):
            fields["HTTP_HOST"] = _authority(target)
        return _framed(method, target, version, raw, fields, self._limits)


def _beyond(status: int, reason: str, setting: str, most: int) -> RequestError:
    return RequestError(status, reason, Limit(setting, str(most)))


def _request_line(line: bytes) -> tuple[str, bytes, str]:
    """Method, target and version of a request line, separated by single spaces (RFC 9112 section 3)."""
    words = line.split(b" ")
    if len(words) != 3 or not is_token(words[0]) or not is_version(words[2]):
        raise RequestError(400, "Malformed request line")
    verb, target, version = words
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise RequestError(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here")
    if verb == b"CONNECT":
        raise RequestError(501, "CONNECT is for proxies")
    _check_target(verb, target)
    return METHODS.get(verb) or verb.decode(), target, version[5:].decode()


def _with_spaces(line: bytes) -> bytes:
    """A header line without tabs around its value, which RFC 9110 section 5.6.3 allows and httptools partly rejects."""
    name, colon, value = line.partition(b":")
    return b"%b: %b\r\n" % (name, value[:-2].strip(b" \t")) if colon else line


def _check_target(verb: bytes, target: bytes) -> None:
    if b"#" in target:
        raise RequestError(400, "Fragment in the request target")
    if target.startswith(b"/") or (target == b"*" and verb == b"OPTIONS"):
        return
    if not target.lower().startswith((b"http://", b"https://")):
        raise RequestError(400, "Malformed request target")


def _authority(target: bytes) -> str:
    """The host of a target in absolute form, which replaces that of Host (RFC 9112 section 3.2.2)."""
    rest = target.partition(b"://")[2].partition(b"?")[0]
    host = rest.partition(b"/")[0].decode("latin-1")
    _check_host(host)
    return host


def _join_fields(lines: list[bytes]) -> dict[str, str]:
    """The fields by CGI name, with repeated fields joined (RFC 9110 section 5.3, RFC 3875 section 4.1.18)."""
    fields: dict[str, str] = {}
    for line in lines:
        key, value = _known_fields.get(line) or _field_of(line)
        if not key:
            # The value is dropped: `_framed` needs to know only that there was such a field.
            fields[""] = ""
            continue
        if key in _SINGLE and key in fields:
            raise RequestError(400, f"{key.removeprefix('HTTP_')} given twice")
        if key in fields:
            fields[key] += ("; " if key == "HTTP_COOKIE" else ",") + value
        else:
            fields[key] = value
    return fields


# -- both paths --------------------------------------------------------------------------------------------


def _framed(
    method: str,
    target: bytes,
    version: str,
    raw: bytes,
    fields: dict[str, str],
    limits: Limits,
) -> RequestHead:
    """The head, with the framing of the body and the options of the connection from its fields."""
    underscored = fields.pop("", None) is not None and _has_underscored_name(raw)
    length = _content_length(fields, limits)
    chunked = _is_chunked(fields, version)
    if chunked and length is not None:
        raise RequestError(400, "Content-Length and Transfer-Encoding together")
    keep_alive = _keeps_alive(fields, version)
    expect_continue = _expects_continue(fields, version) and (chunked or bool(length))
    _add_request_line(fields, method, target, version)
    return RequestHead(
        method=method,
        target=target,
        version=version,
        raw=raw,
        variables=fields,
        content_length=length,
        chunked=chunked,
        keep_alive=keep_alive,
        expect_continue=expect_continue,
        upgrade="HTTP_UPGRADE" in fields,
        body_expected=chunked or bool(length),
        forwarded=not FORWARDING.isdisjoint(fields),
        underscored=underscored,
    )


def _has_underscored_name(raw: bytes) -> bool:
    """Whether a field was left out because of an underscore in its name."""
    return any(b"_" in line.partition(b":")[0] for line in raw.split(b"\r\n")[1:-2])


def _add_request_line(variables: dict[str, str], method: str, target: bytes, version: str) -> None:
    """Add the variables of PEP 3333 for the request line."""
    uri = target.decode("latin-1")
    path, _, query = uri.partition("?")
    if path[0] != "/":
        path = _path_of(path)
    variables["REQUEST_METHOD"] = method
    variables["RAW_URI"] = variables["REQUEST_URI"] = uri
    variables["QUERY_STRING"] = query
    variables["PATH_INFO"] = _unquote(path) if "%" in path else path
    if version != "1.1":
        variables["SERVER_PROTOCOL"] = f"HTTP/{version}"


def _unquote(path: str) -> str:
    """The percent-decoded path as a native string of PEP 3333: each character is one byte."""
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


def _path_of(target: str) -> str:
    """The path of a target in asterisk or absolute form. `*` has no path: PEP 3333 requires "/..." or ""."""
    if target == "*":
        return ""
    return "/" + target.partition("://")[2].partition("/")[2]


def _content_length(fields: dict[str, str], limits: Limits) -> int | None:
    value = fields.get("CONTENT_LENGTH")
    if value is None:
        return None
    length = length_of(value)
    if length is None:
        raise RequestError(400, "Malformed Content-Length")
    if length > limits.body:
        raise _beyond(413, "Request body too large", "max_body_size", limits.body)
    return length


def _is_chunked(fields: dict[str, str], version: str) -> bool:
    """Whether the body is chunked. Only `chunked` without other codings is accepted (RFC 9112 section 6.1)."""
    value = fields.get("HTTP_TRANSFER_ENCODING")
    if value is None:
        return False
    if version == "1.0":
        raise RequestError(400, "Transfer-Encoding in HTTP/1.0")
    if value.lower() == "chunked":
        return True
    codings = split_list(value)
    well_formed = all(is_token(coding.encode("latin-1")) for coding in codings)
    known = well_formed and codings.count("chunked") == 1 and codings[-1] == "chunked"
    raise RequestError(501 if known else 400, "Transfer-Encoding is not chunked alone")


def _expects_continue(fields: dict[str, str], version: str) -> bool:
    value = fields.get("HTTP_EXPECT")
    if value is None or version == "1.0":
        return False
    if value.lower() != "100-continue":
        raise RequestError(417, "Only 100-continue can be expected")
    return True


def _keeps_alive(fields: dict[str, str], version: str) -> bool:
    value = fields.get("HTTP_CONNECTION")
    if value is None:
        return version == "1.1"
    options = split_list(value)
    return "close" not in options and (version == "1.1" or "keep-alive" in options)
