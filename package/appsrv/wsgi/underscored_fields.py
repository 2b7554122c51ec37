"""Header fields with an underscore in their names, in a server that takes them from trusted proxies.

`X_Token` and `X-Token` have the same CGI name (RFC 3875 section 4.1.18), so a client could set with the one what a
proxy sets, or removes, with the other. A field with hyphens therefore always wins, and of two other spellings of one
name neither counts. Pure. Knows neither settings nor who is trusted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from appsrv.http.syntax import FORWARDING

# In the environ: the names of the fields that were taken, as they were sent.
KEY = "appsrv.underscored_fields"
# What appsrv itself goes by, or has gone by: such a name is only ever a forgery.
_RESERVED = FORWARDING | {
    f"HTTP_{name}" for name in ("CONTENT_LENGTH", "CONTENT_TYPE", "TRANSFER_ENCODING", "KEEP_ALIVE", "PROXY_CONNECTION")
}


class Sorted(NamedTuple):
    """`variables` go into the environ, `taken` are the names that they come from, `refused` those of the others."""

    variables: dict[str, str]
    taken: frozenset[bytes]
    refused: list[str]


def underscored(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Those of the fields that have an underscore in their name."""
    return [(name, value) for name, value in headers if b"_" in name]


def names_of(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Their names, each once."""
    return list(dict.fromkeys(name.decode("latin-1") for name, _ in underscored(headers)))


def sort_out(headers: Iterable[tuple[bytes, bytes]], present: Container[str]) -> Sorted:
    """Which fields of a trusted proxy count; `present` are the variables that fields without underscores have set."""
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
