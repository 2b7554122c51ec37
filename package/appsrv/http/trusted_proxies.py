"""The proxies whose statements about a client are trusted: those in `forwarded_allow_ips`. Pure: addresses are text.

Knows neither the statements (`forwarded`, `proxy_protocol`) nor the connections.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

ANY_PEER, UNIX = "*", "unix"
_MAPPED = b"\0" * 10 + b"\xff\xff"
_MAX_CACHED_ADDRESSES = 1024


def plain_address(text: str) -> str | None:
    """The canonical text of an IP address; None if it is not one. `::ffff:192.0.2.1` becomes 192.0.2.1."""
    packed = _packed(text)
    if packed is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


class TrustedProxies:
    """Addresses, networks (`10.0.0.0/8`), `*` and `unix`. `entries` have been validated by `settings.parsers`.

    `*` trusts every peer of a connection, but no address in a header, because every client could then choose its own.
    `carried`: the address of a connection comes from the PROXY protocol; `*` and `unix` do not apply to it.
    """

    def __init__(self, entries: Iterable[str], *, carried: bool = False) -> None:
        names = set(entries)
        self._any_peer = ANY_PEER in names and not carried
        self._unix = UNIX in names and not carried
        self._networks = [_network(name) for name in names - {ANY_PEER, UNIX}]
        self._known: dict[str, bool] = {}

    def peer(self, address: str) -> bool:
        """Whether the peer of a connection is trusted. Its address is "" on a unix socket."""
        return self._any_peer or (self.hop(address) if address else self._unix)

    def hop(self, address: str) -> bool:
        """Whether an address in a header of a trusted proxy is a trusted proxy, too."""
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _MAX_CACHED_ADDRESSES:
                self._known.clear()
            known = self._known[address] = self._is_inside(address)
        return known

    def _is_inside(self, address: str) -> bool:
        packed = _packed(address)
        if packed is None:
            return False
        size, number = len(packed), int.from_bytes(packed, "big")
        return any(size == width and number >> shift == prefix for width, shift, prefix in self._networks)


def _network(text: str) -> tuple[int, int, int]:
    """(bytes of an address, number of host bits, the network bits as a number)."""
    address, slash, bits = text.partition("/")
    packed = _packed(address)
    assert packed is not None, text
    shift = 8 * len(packed) - int(bits) if slash else 0
    return len(packed), shift, int.from_bytes(packed, "big") >> shift


def _packed(text: str) -> bytes | None:
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed
