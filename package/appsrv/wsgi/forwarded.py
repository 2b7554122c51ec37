"""What trusted proxies say about a request: X-Forwarded-* and Forwarded (RFC 7239), carried over into its environ.

Pure. Anybody else's are taken away before the application sees them, those of a trusted proxy stay where they are.
Knows neither connections nor settings. A request about which two headers disagree is refused.
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

# Each field that names the scheme, and its words for it.
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
# Section 6 of RFC 7239: an address, perhaps with a port; an IPv6 address without brackets has none.
_NODE = re.compile(rf"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\]){_PORT}|([0-9A-Fa-f:.]+)")
# Section 4: token=value, or token="quoted". Ports and brackets without quotes are common, and cannot be misread.
_PAIR = re.compile(rf"""({TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([^\s",;=\\]+))[ \t]*(?=[,;]|$)""")
# Decoded: neither `//host` nor `/\\host`, which lead elsewhere when they come first in a Location.
_PREFIX = re.compile(r"(?:/[^\x00-\x1f\x7f/\\]+)*/?")


class Said(NamedTuple):
    """What headers say of a request; None: nothing. `client` is (address, port), both empty where it is not known."""

    client: tuple[str, str] | None = None
    scheme: str | None = None
    host: str | None = None
    port: str | None = None
    prefix: str | None = None


def apply(environ: Environ, proxies: TrustedProxies) -> list[str]:
    """Make `environ`, whose REMOTE_ADDR is whoever is connected, the one of the client's own request.

    Returns the names of the fields that were removed, because they came from somebody else than a trusted proxy.
    Raises RequestError (400) when the headers of a trusted proxy are malformed or disagree.
    """
    if not proxies.peer(environ["REMOTE_ADDR"]):
        removed = sorted(FORWARDING & environ.keys())
        for name in removed:
            del environ[name]
        return [field_name(name) for name in removed]
    said = _by_x_forwarded(environ, proxies)
    if environ.get("HTTP_FORWARDED"):
        standard = _by_forwarded(environ["HTTP_FORWARDED"], proxies)
        _compare(environ, said, standard)
        # Where both say something it is the same.
        said = said._replace(
            client=said.client or standard.client,
            scheme=said.scheme or standard.scheme,
            host=said.host or standard.host,
        )
    _carry_over(environ, said)
    return []


def _carry_over(environ: Environ, said: Said) -> None:
    client, scheme, host, port, prefix = said
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
        # Below an application's own base_uri: what stands before it, or, from a proxy that knows it, both.
        environ["SCRIPT_NAME"] = prefix if prefix.endswith(own) else prefix + own
        if not own:
            cut_mount_point(environ)


def _compare(environ: Environ, ours: Said, theirs: Said) -> None:
    """Proxies set one kind of header and pass the other one on as the client sent it: they have to agree.

    What one of them leaves out counts as what is so without it, or a client could add its own lie to the truth.
    """
    if ours[:3] == (None, None, None):
        return
    one, other = (_effective(said, environ) for said in (ours, theirs))
    for name, first, second in zip(("for", "proto", "host"), one, other, strict=True):
        if first != second:
            raise RequestError(400, f"Forwarded and X-Forwarded-* disagree about {name}")


def _effective(said: Said, environ: Environ) -> tuple[str, str, str]:
    """Address, scheme and host of the request, were this all that is said about it."""
    return (
        environ["REMOTE_ADDR"] if said.client is None else said.client[0],
        said.scheme or environ["wsgi.url_scheme"],
        (said.host or environ.get("HTTP_HOST", "")).lower(),
    )


# -- X-Forwarded-* ---------------------------------------------------------------------------------------------------


def _by_x_forwarded(environ: Environ, proxies: TrustedProxies) -> Said:
    """Each list is counted from its right end, as many members as proxies of ours have added to X-Forwarded-For."""
    members = _members(environ.get("HTTP_X_FORWARDED_FOR", ""))
    client, depth = _client(members, proxies)
    return Said(
        client,
        _scheme(environ, depth),
        _checked_host(_member(environ, "HTTP_X_FORWARDED_HOST", depth)),
        _checked_port(_member(environ, "HTTP_X_FORWARDED_PORT", depth)),
        _checked_prefix(_member(environ, "HTTP_X_FORWARDED_PREFIX", depth)),
    )


def _members(value: str) -> list[str]:
    """The members of a list (RFC 9110 section 5.6.1); empty ones are none."""
    return [member for part in value.split(",") if (member := part.strip(" \t"))]


def _member(environ: Environ, name: str, depth: int) -> str | None:
    value = environ.get(name)
    if not value:
        return None
    members = _members(value)
    return members[-1 - min(depth, len(members) - 1)] if members else None


def _client(nodes: Sequence[str], proxies: TrustedProxies) -> tuple[tuple[str, str] | None, int]:
    """The rightmost node that is no trusted proxy, and how many stand to its right; of trusted ones the leftmost."""
    client = None
    for depth, node in enumerate(reversed(nodes)):
        client = _address(node)
        if not proxies.hop(client[0]):
            return client, depth
    return client, max(0, len(nodes) - 1)


def _address(node: str) -> tuple[str, str]:
    """(address, port) of a node; both are empty for `unknown`, an obfuscated name and whatever else is no address."""
    if len(node) > 1 and node[0] == node[-1] == '"':
        node = node[1:-1]
    match = _NODE.fullmatch(node)
    if match is None:
        return "", ""
    address = plain_address(match[1] or match[2] or match[4])
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
    """The name of a field in HTTP, by its CGI name."""
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
    """The prefix as SCRIPT_NAME: decoded, without a slash at its end."""
    if prefix is None:
        return None
    decoded = unquote_to_bytes(prefix.encode("latin-1")).decode("latin-1")
    if not _PREFIX.fullmatch(decoded) or "?" in prefix or "#" in prefix:
        raise RequestError(400, "X-Forwarded-Prefix is not the beginning of a path")
    return decoded.removesuffix("/")


# -- Forwarded -------------------------------------------------------------------------------------------------------


def _by_forwarded(value: str, proxies: TrustedProxies) -> Said:
    """What the element says that names the client; the others are about hops between proxies."""
    elements = _elements(value)
    if not elements:
        return Said()
    client, depth = _client([element.get("for", "unknown") for element in elements], proxies)
    element = elements[-1 - depth]
    scheme = element.get("proto")
    if scheme is not None and scheme.lower() not in _HTTP:
        raise RequestError(400, "Forwarded names no scheme")
    return Said(
        client if "for" in element else None,
        _HTTP[scheme.lower()] if scheme else None,
        _checked_host(element.get("host")),
    )


def _elements(value: str) -> list[dict[str, str]]:
    """The elements of a Forwarded field (RFC 7239 section 4), empty ones left out."""
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
