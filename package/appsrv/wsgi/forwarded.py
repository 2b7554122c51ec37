"""Applies the X-Forwarded-* and Forwarded (RFC 7239) headers of trusted proxies to a request's environ.

Headers from any other sender are removed before the application sees the request; those of a trusted proxy stay in the
environ. A request with contradicting headers is refused. Pure. This module knows neither connections nor settings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from appsrv.errors import RequestError
from appsrv.http.syntax import FORWARDING, TOKEN, is_host
from appsrv.http.trusted_proxies import TrustedProxies, plain_address
from appsrv.wsgi.environ import Environ, cut_mount_point, name_server_by_host

# The fields that name the scheme, each with its values and their schemes.
_HTTP = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_SWITCH = {"on": "https", "off": "http"}
_SCHEMES = {
    "HTTP_X_FORWARDED_PROTO": _HTTP,
    "HTTP_X_FORWARDED_PROTOCOL": _HTTP | {"ssl": "https"},
    "HTTP_X_FORWARDED_SCHEME": _HTTP,
    "HTTP_X_FORWARDED_SSL": _SWITCH,
    "HTTP_X_SCHEME": _HTTP,
    "HTTP_FRONT_END_HTTPS": _SWITCH,
}
_PORT = r"(?::([0-9]{1,5}|_[0-9A-Za-z._-]+))?"
# RFC 7239 section 6: an address, optionally with a port; an IPv6 address without brackets has no port.
_NODE = re.compile(rf"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\]){_PORT}|([0-9A-Fa-f:.]+)")
# RFC 7239 section 4: token=value or token="quoted". The RFC demands quotes around ports and brackets; proxies often
# omit them, and the value is unambiguous without them.
_PAIR = re.compile(rf"""({TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([^\s",;=\\]+))[ \t]*(?=[,;]|$)""")
# Matches the decoded prefix. It excludes `//host` and `/\\host`: at the beginning of a Location they name another host.
_PREFIX = re.compile(r"(?:/[^\x00-\x1f\x7f/\\]+)*/?")


class ForwardedValues(NamedTuple):
    """The values that headers give for a request; None: not given. `client`: (address, port), both empty if unknown."""

    client: tuple[str, str] | None = None
    scheme: str | None = None
    host: str | None = None
    port: str | None = None
    prefix: str | None = None


def apply(environ: Environ, proxies: TrustedProxies) -> list[str]:
    """Change `environ` to describe the original client's request; its REMOTE_ADDR is the peer of the connection.

    Returns the names of the fields that were removed because the peer is not a trusted proxy. Raises `RequestError`
    (400) if the headers of a trusted proxy are malformed or contradict each other.
    """
    if not proxies.peer(environ["REMOTE_ADDR"]):
        removed = sorted(FORWARDING & environ.keys())
        for name in removed:
            del environ[name]
        return [field_name(name) for name in removed]
    values = _by_x_forwarded(environ, proxies)
    if environ.get("HTTP_FORWARDED"):
        standard = _by_forwarded(environ["HTTP_FORWARDED"], proxies)
        _compare(environ, values, standard)
        # `_compare` has made sure that values given by both are equal.
        values = values._replace(
            client=values.client or standard.client,
            scheme=values.scheme or standard.scheme,
            host=values.host or standard.host,
        )
    _carry_over(environ, values)
    return []


def _carry_over(environ: Environ, values: ForwardedValues) -> None:
    client, scheme, host, port, prefix = values
    if client is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client
    if scheme is not None:
        environ["wsgi.url_scheme"] = scheme
        environ.pop("HTTPS", None)
        if scheme == "https":
            environ["HTTPS"] = "on"
    if host is not None:
        environ["HTTP_HOST"] = host
    if (scheme or host) and environ.get("HTTP_HOST"):
        name_server_by_host(environ)
    if port is not None:
        environ["SERVER_PORT"] = port
    if prefix:
        own = environ["SCRIPT_NAME"]
        # SCRIPT_NAME is already the application's base_uri. The proxy's prefix comes in front of it, unless the proxy
        # knows the base_uri and its prefix ends with it.
        environ["SCRIPT_NAME"] = prefix if prefix.endswith(own) else prefix + own
        if not own:
            cut_mount_point(environ)


def _compare(environ: Environ, ours: ForwardedValues, theirs: ForwardedValues) -> None:
    """Raise `RequestError` (400) unless Forwarded and X-Forwarded-* describe the same request.

    Most proxies set one kind of header and pass the other kind on as the client sent it, so a difference may be a
    forgery. A value that one kind leaves out counts as the connection's own value. Otherwise a client could use the
    kind that the proxy does not set to add a value that the proxy's kind leaves out.
    """
    if ours[:3] == (None, None, None):
        return
    one, other = (_effective(values, environ) for values in (ours, theirs))
    for name, first, second in zip(("for", "proto", "host"), one, other, strict=True):
        if first != second:
            raise RequestError(400, f"Forwarded and X-Forwarded-* disagree about {name}")


def _effective(values: ForwardedValues, environ: Environ) -> tuple[str, str, str]:
    """Address, scheme and host of the request if these headers alone are applied."""
    return (
        environ["REMOTE_ADDR"] if values.client is None else values.client[0],
        values.scheme or environ["wsgi.url_scheme"],
        (values.host or environ.get("HTTP_HOST", "")).lower(),
    )


# -- X-Forwarded-* ---------------------------------------------------------------------------------------------------


def _by_x_forwarded(environ: Environ, proxies: TrustedProxies) -> ForwardedValues:
    """The values of X-Forwarded-*. X-Forwarded-For shows how many trusted proxies have appended to the lists.

    The same number of members is skipped from the right end of every other list.
    """
    members = _members(environ.get("HTTP_X_FORWARDED_FOR", ""))
    client, depth = _client(members, proxies)
    return ForwardedValues(
        client,
        _scheme(environ, depth),
        _checked_host(_member(environ, "HTTP_X_FORWARDED_HOST", depth)),
        _checked_port(_member(environ, "HTTP_X_FORWARDED_PORT", depth)),
        _checked_prefix(_member(environ, "HTTP_X_FORWARDED_PREFIX", depth)),
    )


def _members(value: str) -> list[str]:
    """The members of a list; empty elements are ignored (RFC 9110 section 5.6.1.2)."""
    return [member for part in value.split(",") if (member := part.strip(" \t"))]


def _member(environ: Environ, name: str, depth: int) -> str | None:
    value = environ.get(name)
    if not value:
        return None
    members = _members(value)
    return members[-1 - min(depth, len(members) - 1)] if members else None


def _client(nodes: Sequence[str], proxies: TrustedProxies) -> tuple[tuple[str, str] | None, int]:
    """The rightmost node that is not a trusted proxy, and the number of nodes to its right.

    The leftmost node if all are trusted; None if there are no nodes.
    """
    # Each proxy appends the address of its peer. So the members are reliable from the right end as long as the proxies
    # are trusted; the client may have sent all members to the left of its own address.
    client = None
    for depth, node in enumerate(reversed(nodes)):
        client = _address(node)
        if not proxies.hop(client[0]):
            return client, depth
    return client, max(0, len(nodes) - 1)


def _address(node: str) -> tuple[str, str]:
    """(address, port) of a node; both are empty for `unknown`, an obfuscated name or an address that is malformed."""
    if len(node) > 1 and node[0] == node[-1] == '"':
        node = node[1:-1]
    match = _NODE.fullmatch(node)
    if match is None:
        return "", ""
    address = plain_address(match[1] or match[2] or match[4])
    # RFC 7239 section 6: a port may be obfuscated as well (`_x`). Such a port is unknown.
    port = match[3] or ""
    if address is None or (port.isdigit() and int(port) > 65535):
        return "", ""
    return address, port if port.isdigit() else ""


def _scheme(environ: Environ, depth: int) -> str | None:
    found: str | None = None
    for name, words in _SCHEMES.items():
        if name in environ and (word := _member(environ, name, depth)) is not None:
            scheme = words.get(word.lower())
            if scheme is None:
                raise RequestError(400, f"{field_name(name)} names no scheme")
            if found not in (None, scheme):
                raise RequestError(400, f"{field_name(name)} contradicts another header about the scheme")
            found = scheme
    return found


def field_name(name: str) -> str:
    """The HTTP name of a field, from its CGI name: X-Forwarded-For for HTTP_X_FORWARDED_FOR."""
    return name[5:].replace("_", "-").title().replace("-Ip", "-IP").replace("-Id", "-ID")


def _checked_host(host: str | None) -> str | None:
    if host is not None and not is_host(host):
        raise RequestError(400, "The forwarded host is not a host name with at most one port")
    return host


def _checked_port(port: str | None) -> str | None:
    if port is not None and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise RequestError(400, "X-Forwarded-Port is not a port")
    return port


def _checked_prefix(prefix: str | None) -> str | None:
    """The prefix as a SCRIPT_NAME: percent-decoded, without a slash at its end."""
    if prefix is None:
        return None
    decoded = unquote_to_bytes(prefix.encode("latin-1")).decode("latin-1")
    if not _PREFIX.fullmatch(decoded) or "?" in prefix or "#" in prefix:
        raise RequestError(400, "X-Forwarded-Prefix is not the beginning of a path")
    return decoded.removesuffix("/")


# -- Forwarded -------------------------------------------------------------------------------------------------------


def _by_forwarded(value: str, proxies: TrustedProxies) -> ForwardedValues:
    """The values of the element that names the client; the other elements describe hops between proxies."""
    elements = _elements(value)
    if not elements:
        return ForwardedValues()
    client, depth = _client([element.get("for", "unknown") for element in elements], proxies)
    element = elements[-1 - depth]
    scheme = element.get("proto")
    if scheme is not None and scheme.lower() not in _HTTP:
        raise RequestError(400, "Forwarded names no scheme")
    return ForwardedValues(
        client if "for" in element else None,
        _HTTP[scheme.lower()] if scheme else None,
        _checked_host(element.get("host")),
    )


def _elements(value: str) -> list[dict[str, str]]:
    """The elements of a Forwarded field (RFC 7239 section 4) without empty ones.

    Raises `RequestError` (400) for a malformed field or a repeated parameter.
    """
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(value):
        if value[position] in ",; \t":
            if value[position] == ",":
                elements.append({})
            position += 1
            continue
        pair = _PAIR.match(value, position)
        if pair is None or pair[1].lower() in elements[-1]:
            raise RequestError(400, "Malformed Forwarded")
        quoted = pair[2]
        elements[-1][pair[1].lower()] = pair[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = pair.end()
    return [element for element in elements if element]
