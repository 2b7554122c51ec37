"""A second reader of requests, as small and slow as a grammar: RFC 9112 in regular expressions over the whole bytes.

It shares no code with appsrv and is as strict as docs/http.md says. It answers with the requests and how it went on:
`DONE` (nothing is left), `INCOMPLETE` (more may follow), `REFUSED`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

DONE, INCOMPLETE, REFUSED = "done", "incomplete", "refused"

Field = tuple[bytes, bytes]
Request = tuple[bytes, bytes, str, list[Field], bytes]

TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
REQUEST_LINE = re.compile(rb"(%b) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/1\.([01])" % TOKEN)
FIELD = re.compile(rb"(%b):[ \t]*(%b)" % (TOKEN, VALUE))
ABSOLUTE = re.compile(rb"https?://([^/?]*)([/?].*)?", re.IGNORECASE | re.DOTALL)
REG_NAME = re.compile(rb"[A-Za-z0-9._~-]+(:[0-9]{0,5})?")
ADDRESS = re.compile(rb"\[([0-9A-Fa-f:.]+)\](:[0-9]{0,5})?")
QUOTED = rb'"([\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
EXTENSIONS = rb"([ \t]*;[ \t]*%b([ \t]*=[ \t]*(%b|%b))?)*" % (TOKEN, TOKEN, QUOTED)
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(%b)" % EXTENSIONS)
LATE = frozenset(
    b"host content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade expect "
    b"max-forwards range if-range if-match if-none-match if-modified-since if-unmodified-since cache-control pragma "
    b"authorization proxy proxy-authorization cookie set-cookie content-encoding content-range content-type "
    b"content-language content-location content-disposition origin referer via forwarded x-forwarded-for "
    b"x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-protocol "
    b"x-forwarded-scheme x-forwarded-server "
    b"x-forwarded-ssl x-scheme front-end-https x-real-ip x-request-id "
    b"x-http-method-override remote-user x-remote-user".split()
)


class Refused(Exception):
    """The bytes are no request."""


class Incomplete(Exception):
    """The bytes may be the beginning of one."""


class Head(NamedTuple):
    method: bytes
    target: bytes
    version: str
    fields: list[Field]

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


def read(data: bytes) -> tuple[list[Request], str]:
    """The requests that `data` holds, and what becomes of what follows them."""
    requests = []
    try:
        while data:
            head, data = read_head(data)
            body, data = read_body(head, data)
            requests.append((head.method, head.target, head.version, head.fields, body))
    except Refused:
        return requests, REFUSED
    except Incomplete:
        return requests, INCOMPLETE
    return requests, DONE


def refuse_unless(right: object) -> None:
    if not right:
        raise Refused


def read_head(data: bytes) -> tuple[Head, bytes]:
    for _ in range(8):
        data = data.removeprefix(b"\r\n")
    refuse_unless(not data.startswith(b"\r\n"))
    text, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise Incomplete
    first, *lines = text.split(b"\r\n")
    refuse_unless(len(text) + 4 <= 65536 and len(first) + 2 <= 8190 and len(lines) <= 100)
    refuse_unless(all(len(line) + 2 <= 16384 for line in lines))
    line = REQUEST_LINE.fullmatch(first)
    refuse_unless(line)
    fields = [FIELD.fullmatch(line) for line in lines]
    refuse_unless(all(fields))
    pairs = [(match[1], match[2].rstrip(b" \t")) for match in fields if match]
    assert line
    head = Head(line[1], line[2], f"1.{line[3].decode()}", pairs)
    check_head(head)
    return head, rest


def check_head(head: Head) -> None:
    refuse_unless(head.method != b"CONNECT")
    hosts = head.values(b"host")
    refuse_unless(len(hosts) == 1 or (not hosts and head.version == "1.0"))
    refuse_unless(all(is_host(host) for host in hosts))
    if not head.target.startswith(b"/") and (head.method, head.target) != (b"OPTIONS", b"*"):
        absolute = ABSOLUTE.fullmatch(head.target)
        refuse_unless(absolute and is_host(absolute[1]))
    check_framing(head)
    if head.version == "1.1" and (expected := head.values(b"expect")):
        refuse_unless(b",".join(expected).lower() == b"100-continue")


def is_host(value: bytes) -> bool:
    match = REG_NAME.fullmatch(value)
    port = match[1] if match else None
    if not match:
        address = ADDRESS.fullmatch(value)
        if not address:
            return False
        port = address[2]
        try:
            ipaddress.IPv6Address(address[1].decode())
        except ValueError:
            return False
    return not port or int(port[1:] or b"0") < 65536


def check_framing(head: Head) -> None:
    codings, lengths = head.values(b"transfer-encoding"), head.values(b"content-length")
    refuse_unless(len(codings) + len(lengths) < 2)
    refuse_unless(not codings or (codings[0].lower() == b"chunked" and head.version == "1.1"))
    refuse_unless(not lengths or (re.fullmatch(rb"[0-9]{1,18}", lengths[0]) and int(lengths[0]) <= 1 << 30))


def read_body(head: Head, data: bytes) -> tuple[bytes, bytes]:
    if head.values(b"transfer-encoding"):
        return read_chunks(head, data)
    size = int((head.values(b"content-length") or [b"0"])[0])
    return take(data, size)


def take(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise Incomplete
    return data[:size], data[size:]


def take_line(data: bytes, limit: int) -> tuple[bytes, bytes]:
    line, end, rest = data.partition(b"\n")
    refuse_unless(len(line) + len(end) <= limit)
    if not end:
        raise Incomplete
    refuse_unless(line.endswith(b"\r"))
    return line[:-1], rest


def read_chunks(head: Head, data: bytes) -> tuple[bytes, bytes]:
    body, extensions, announced = b"", 0, 0
    while True:
        line, data = take_line(data, 1024)
        match = SIZE_LINE.fullmatch(line)
        refuse_unless(match)
        assert match
        size, extensions = int(match[1], 16), extensions + len(match[2])
        announced += size
        refuse_unless(extensions <= 16384 and announced <= 1 << 30)
        if not size:
            return body, read_trailers(head, data)
        piece, data = take(data, size)
        body += piece
        refuse_unless(b"\r\n".startswith(data[:2]))
        _, data = take(data, 2)


def read_trailers(head: Head, data: bytes) -> bytes:
    size = 0
    while True:
        line, data = take_line(data, max(2, 8192 - size))
        if not line:
            return data
        size += len(line) + 2
        match = re.fullmatch(rb"(%b):%b" % (TOKEN, VALUE), line)
        refuse_unless(match)
        assert match
        name = match[1].lower().replace(b"_", b"-")
        taken = {key.lower() for key, _ in head.fields if b"_" not in key and key.lower() != b"proxy"}
        refuse_unless(name not in LATE and name not in taken)
