"""A request as the process behind the proxy gets it: the head as the client sent it, less what was between us two.

Order, case and repetition of fields stay. Hop-by-hop fields go (RFC 9110 section 7.6.1), names with underscores too,
since others read them as dashes, unless `underscored_fields` has taken them; what proxies say of the client is said
anew, by what appsrv knows. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from appsrv.http.syntax import FORWARDING, HOP_BY_HOP_FIELDS, RequestHead, split_list
from appsrv.wsgi.underscored_fields import KEY as UNDERSCORED
from appsrv.wsgi.upstream_hooks import KEY, Proxied

__all__ = ["UpstreamRequest", "request_of"]

# Methods that may be sent a second time without having been asked (RFC 9110 section 9.2.2).
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
# `Proxy` is no field of HTTP: CGI programs take it for the setting HTTP_PROXY (CVE-2016-5385).
_NOT_PASSED_ON = frozenset({name.encode() for name in HOP_BY_HOP_FIELDS} | {b"proxy"})
# Said anew.
_REPLACED = frozenset(
    {b"host", b"content-length", b"expect"}
    | {name.removeprefix("HTTP_").replace("_", "-").lower().encode() for name in FORWARDING}
)
# What a path has besides letters, digits and what is encoded (RFC 3986 section 3.3).
_IN_PATHS = "/:@!$&'()*+,;=~"


class UpstreamRequest(NamedTuple):
    """`head` are its bytes. `length` is that of the body, None: in chunks; `upgrade` the protocol asked for, or empty.

    `idempotent`: it may be sent again when the first attempt ended without an answer. `expects`: the body is to be sent
    when 100 has come.
    """

    method: str
    target: bytes
    head: bytes
    length: int | None
    upgrade: bytes
    idempotent: bool
    expects: bool


def request_of(environ: dict[str, Any]) -> UpstreamRequest:
    """The request that `environ` and the `Proxied` in it describe."""
    proxied: Proxied = environ[KEY]
    head = proxied.head
    upgrade = _upgrade(head) if proxied.may_switch else b""
    length, chunked = _framing(environ, proxied)
    expects = proxied.streamed and head.expect_continue
    target = _origin_form(head.target)
    lines = [b"%b %b HTTP/1.1" % (head.method.encode(), target)]
    lines += _kept(head, environ)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif length or (head.body_expected or "CONTENT_LENGTH" in environ):
        lines.append(b"Content-Length: %d" % length)
    if expects:
        lines.append(b"Expect: 100-continue")
    if upgrade:
        lines += [b"Connection: Upgrade", b"Upgrade: " + upgrade]
    lines += [b"%b: %b" % (name, value.encode("latin-1")) for name, value in _said_anew(environ) if value]
    return UpstreamRequest(
        method=head.method, target=target, head=b"\r\n".join(lines) + b"\r\n\r\n",
        length=None if chunked else length, upgrade=upgrade, idempotent=head.method in _IDEMPOTENT, expects=expects,
    )


def _framing(environ: dict[str, Any], proxied: Proxied) -> tuple[int, bool]:
    """(length of the body, whether it goes in chunks): only where it is not known beforehand."""
    if proxied.streamed and proxied.head.chunked:
        return 0, True
    return int(environ.get("CONTENT_LENGTH") or 0), False


def _upgrade(head: RequestHead) -> bytes:
    """The protocols that the client would rather speak (RFC 9110 section 7.8); HTTP/1.0 cannot ask.

    Not h2c: requests inside of it would be seen by nobody on the way (access log, limits, forwarded fields).
    """
    connection = split_list(head.variables.get("HTTP_CONNECTION", ""))
    if not head.upgrade or head.version != "1.1" or "upgrade" not in connection:
        return b""
    wanted = [protocol.strip() for protocol in head.variables["HTTP_UPGRADE"].split(",")]
    return ", ".join(protocol for protocol in wanted if protocol.lower() != "h2c").encode("latin-1")


def _origin_form(target: bytes) -> bytes:
    """`http://host/path` as `/path` (RFC 9112 section 3.2.1): the host goes into Host."""
    if target[:1] in (b"/", b"*"):
        return target
    rest = target.partition(b"://")[2]
    at = min((place for place in (rest.find(b"/"), rest.find(b"?")) if place >= 0), default=len(rest))
    path = rest[at:]
    return path if path.startswith(b"/") else b"/" + path


def _kept(head: RequestHead, environ: dict[str, Any]) -> Iterator[bytes]:
    """The lines of the fields that go through, with Host where it was."""
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    host_line = b"Host: " + host.encode("latin-1")
    named = {name.encode("latin-1") for name in split_list(head.variables.get("HTTP_CONNECTION", ""))}
    dropped = _NOT_PASSED_ON | _REPLACED | (named - {b"host"})
    said, underscored = False, environ.get(UNDERSCORED, ())
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"host":
            said = True
            yield host_line
        elif lower not in dropped and (b"_" not in name or name in underscored):
            yield b"%b: %b" % (name, value)
    if not said:
        yield host_line


def _said_anew(environ: dict[str, Any]) -> Iterator[tuple[bytes, str]]:
    """What is known of the client and of what it asked for: `forwarded` has decided whose word counts."""
    yield b"X-Forwarded-For", environ["REMOTE_ADDR"]
    yield b"X-Forwarded-Proto", environ["wsgi.url_scheme"]
    yield b"X-Forwarded-Host", environ.get("HTTP_HOST", "")
    yield b"X-Forwarded-Port", str(environ["SERVER_PORT"])
    # As it stands in URLs, which PEP 3333 wants decoded.
    yield b"X-Forwarded-Prefix", quote(environ["SCRIPT_NAME"], safe=_IN_PATHS, encoding="latin-1")
    yield b"X-Request-ID", environ.get("HTTP_X_REQUEST_ID", "")
