"""Header fields with an underscore in their names, in a server that takes them from trusted proxies.

`X_Token` and `X-Token` have the same CGI name (RFC 3875 section 4.1.18). A client could therefore send the one to forge
the other, which a proxy sets or removes. So a field with hyphens always wins, and two other spellings of one name are
both refused. Pure. This module knows neither the settings nor the trusted addresses.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from appsrv.http.syntax import FORWARDING

# Key in the environ: the names of the fields that were accepted, as the proxy sent them.
KEY = "appsrv.underscored_fields"
# Fields that appsrv interprets itself. No proxy spells them with an underscore, so such a field is a forgery.
_RESERVED = FORWARDING | {
    f"HTTP_{name}" for name in ("CONTENT_LENGTH", "CONTENT_TYPE", "TRANSFER_ENCODING", "KEEP_ALIVE", "PROXY_CONNECTION")
}


class Sorted(NamedTuple):
    """`variables`: added to the environ. `taken`: the names of their fields. `refused`: the names of all others."""

    variables: dict[str, str]
    taken: frozenset[bytes]
    refused: list[str]


def underscored(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields whose names contain an underscore."""
    return [(name, value) for name, value in headers if b"_" in name]


def names_of(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """The names of the fields with an underscore, each once."""
    return list(dict.fromkeys(name.decode("latin-1") for name, _ in underscored(headers)))


def sort_out(headers: Iterable[tuple[bytes, bytes]], present: Container[str]) -> Sorted:
    """Decide which fields of a trusted proxy are accepted.

    `present`: the environ variables that fields without underscores have set already.
    """
    by_key: dict[str, dict[bytes, list[tuple[bytes, bytes]]]] = {}
    for name, value in underscored(headers):
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        by_key.setdefault(key, {}).setdefault(name.lower(), []).append((name, value))
    variables: dict[str, str] = {}
    taken: set[bytes] = set()
    refused: list[str] = []
    for key, spellings in by_key.items():
        fields = [field for spelling in spellings.values() for field in spelling]
        if len(spellings) > 1 or key in present or key in _RESERVED:
            refused += names_of(fields)
            continue
        variables[key] = ",".join(value.decode("latin-1") for _, value in fields)
        taken |= {name for name, _ in fields}
    return Sorted(variables, frozenset(taken), refused)
