"""Makes the request for the upstream process: the client's head without the fields of the client's own connection.

Fields keep their order, case and repetition. Hop-by-hop fields are dropped (RFC 9110 section 7.6.1). Fields with an
underscore in the name are dropped unless `underscored_fields` has accepted them, because other programs read the
underscore as a hyphen. The X-Forwarded-* fields are replaced by appsrv's own values. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from appsrv.http.syntax import FORWARDING, HOP_BY_HOP_FIELDS, RequestHead, split_list
from appsrv.wsgi.underscored_fields import KEY as UNDERSCORED
from appsrv.wsgi.upstream_hooks import KEY, Proxied

__all__ = ["UpstreamRequest", "request_of"]

# Idempotent methods: a proxy may repeat such a request by itself (RFC 9110 section 9.2.2).
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
# `Proxy` is not a field of HTTP. CGI programs would take it for the variable HTTP_PROXY (CVE-2016-5385).
_NOT_PASSED_ON = frozenset({name.encode() for name in HOP_BY_HOP_FIELDS} | {b"proxy"})
# Fields that are replaced by appsrv's own.
_REPLACED = frozenset(
    {b"host", b"content-length", b"expect"}
    | {name.removeprefix("HTTP_").replace("_", "-").lower().encode() for name in FORWARDING}
)
# The characters that a path contains unencoded besides letters, digits, `-`, `.`, `_` and `~` (RFC 3986 section 3.3).
_IN_PATHS = "/:@!$&'()*+,;=~"


class UpstreamRequest(NamedTuple):
    """A request for the upstream.

    `head`: its bytes, with the empty line. `length`: the length of the body in bytes; None: it is chunked. `upgrade`:
    the requested protocol, or empty. `idempotent`: it may be sent again if the first attempt ended without a response.
    `expects`: the body is sent after 100 (Continue).
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
    lines += _passed_on(head, environ)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif length or (head.body_expected or "CONTENT_LENGTH" in environ):
        lines.append(b"Content-Length: %d" % length)
    if expects:
        lines.append(b"Expect: 100-continue")
    if upgrade:
        lines += [b"Connection: Upgrade", b"Upgrade: " + upgrade]
    lines += [b"%b: %b" % (name, value.encode("latin-1")) for name, value in _replacing_fields(environ) if value]
    return UpstreamRequest(
        method=head.method, target=target, head=b"\r\n".join(lines) + b"\r\n\r\n",
        length=None if chunked else length, upgrade=upgrade, idempotent=head.method in _IDEMPOTENT, expects=expects,
    )


def _framing(environ: dict[str, Any], proxied: Proxied) -> tuple[int, bool]:
    """(length of the body, whether it is chunked); it is chunked only if its length is not known beforehand."""
    if proxied.streamed and proxied.head.chunked:
        return 0, True
    return int(environ.get("CONTENT_LENGTH") or 0), False


def _upgrade(head: RequestHead) -> bytes:
    """The protocols that the client offers to switch to (RFC 9110 section 7.8); in HTTP/1.0 the field is ignored.

    h2c is left out. Requests inside an h2c connection would bypass the access log, the limits and the X-Forwarded-*
    fields.
    """
    connection = split_list(head.variables.get("HTTP_CONNECTION", ""))
    if not head.upgrade or head.version != "1.1" or "upgrade" not in connection:
        return b""
    wanted = [protocol.strip() for protocol in head.variables["HTTP_UPGRADE"].split(",")]
    return ", ".join(protocol for protocol in wanted if protocol.lower() != "h2c").encode("latin-1")


def _origin_form(target: bytes) -> bytes:
    """The origin form of a target (RFC 9112 section 3.2.1): `/path` for `http://host/path`; the host is in Host."""
    if target[:1] in (b"/", b"*"):
        return target
    rest = target.partition(b"://")[2]
    at = min((place for place in (rest.find(b"/"), rest.find(b"?")) if place >= 0), default=len(rest))
    path = rest[at:]
    return path if path.startswith(b"/") else b"/" + path


def _passed_on(head: RequestHead, environ: dict[str, Any]) -> Iterator[bytes]:
    """The lines of the fields that are passed on; Host stays in its place."""
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    host_line = b"Host: " + host.encode("latin-1")
    named = {name.encode("latin-1") for name in split_list(head.variables.get("HTTP_CONNECTION", ""))}
    dropped = _NOT_PASSED_ON | _REPLACED | (named - {b"host"})
    host_written, underscored = False, environ.get(UNDERSCORED, ())
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"host":
            host_written = True
            yield host_line
        elif lower not in dropped and (b"_" not in name or name in underscored):
            yield b"%b: %b" % (name, value)
    if not host_written:
        yield host_line


def _replacing_fields(environ: dict[str, Any]) -> Iterator[tuple[bytes, str]]:
    """The fields about the client and its request. `wsgi.forwarded` has put the trusted values into the environ."""
    yield b"X-Forwarded-For", environ["REMOTE_ADDR"]
    yield b"X-Forwarded-Proto", environ["wsgi.url_scheme"]
    yield b"X-Forwarded-Host", environ.get("HTTP_HOST", "")
    yield b"X-Forwarded-Port", str(environ["SERVER_PORT"])
    # Percent-encoded, as in a URL; PEP 3333 has the decoded path in the environ.
    yield b"X-Forwarded-Prefix", quote(environ["SCRIPT_NAME"], safe=_IN_PATHS, encoding="latin-1")
    yield b"X-Request-ID", environ.get("HTTP_X_REQUEST_ID", "")
