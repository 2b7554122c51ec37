"""How many connections there may be, in all and of one address. Pure: told who comes, goes and is sent away, counts.

Closing and waiting are the front end's.
"""

from __future__ import annotations

import socket
from collections import Counter

from appsrv.http.trusted_proxies import TrustedProxies, plain_address

LOG_INTERVAL_SECONDS = 60.0
MIN_RESERVED_DESCRIPTORS = 64
UNIX = ""


def most_connections(wanted: int, descriptors: int, each: int = 1) -> int:
    """The limit to keep: `wanted` (0 or less: any number), as far as the process's `descriptors` allow it.

    `each`: descriptors that a connection takes. An eighth of them all is for what is not a connection: files of bodies
    and responses that wait, channels, logs.
    """
    possible = max(1, (descriptors - max(MIN_RESERVED_DESCRIPTORS, descriptors // 8)) // each)
    return min(wanted, possible) if wanted > 0 else possible


class ConnectionLimits:
    """`most`: connections in all; `per_address`: of one client's address, 0 for any number.

    Proxies speak for many clients, so that the second limit is not for them, nor for unix sockets. An IPv6 client has
    a whole /64 network to itself, which counts as one address.
    """

    def __init__(self, most: int, per_address: int, proxies: TrustedProxies) -> None:
        self.most = most
        self.per_address = per_address
        self.closed_idle = 0
        self.refused = 0
        self.pauses = 0
        self._proxies = proxies
        self._clients: dict[int, bytes] = {}
        self._of: Counter[bytes] = Counter()
        self._said: dict[str, float] = {}

    def came(self, cid: int, address: str) -> None:
        """A connection from this address is open."""
        if self._counts(address):
            client = self._clients[cid] = _client(address)
            self._of[client] += 1

    def left(self, cid: int) -> None:
        """A connection is over."""
        client = self._clients.pop(cid, None) if self._clients else None
        if client is not None:
            self._of[client] -= 1
            if not self._of[client]:
                del self._of[client]

    def has_too_many(self, address: str) -> bool:
        """Whether this address has as many connections as it may have."""
        return self._counts(address) and self._of[_client(address)] >= self.per_address

    def same_client(self, one: str, other: str) -> bool:
        """Whether two addresses count as one."""
        return one == other or (self._counts(one) and self._counts(other) and _client(one) == _client(other))

    @property
    def at_once(self) -> int:
        """How many idle connections to close at a time: finding them takes a look at all."""
        return max(1, self.most // 64)

    # -- what is said of it: once in a while, however often it happens -----------------------------------------------

    def count_closed_idle(self, count: int, now: float) -> str | None:
        """Idle connections were closed to make room; returns what to log, now and then."""
        self.closed_idle += count
        return self._now_and_then(
            "idle", now,
            f"max_connections ({self.most}) or the limit of descriptors is reached: the connections idle longest are "
            f"closed to make room ({self.closed_idle} so far)",
        )

    def count_pause(self, reason: str, now: float) -> str | None:
        """No connection is accepted for a moment; returns what to log, now and then."""
        self.pauses += 1
        return self._now_and_then(
            "pause", now,
            f"cannot accept connections: {reason}; none is idle that could be closed, so new clients wait",
        )

    def count_refused(self, address: str, now: float) -> str | None:
        """A connection was answered 429; returns what to log, now and then."""
        self.refused += 1
        return self._now_and_then(
            "refused", now,
            f"connections of {address} are refused: it has max_connections_per_address ({self.per_address}) of them "
            f"({self.refused} refused so far)",
        )

    def _now_and_then(self, what: str, now: float, line: str) -> str | None:
        if now < self._said.get(what, now - LOG_INTERVAL_SECONDS) + LOG_INTERVAL_SECONDS:
            return None
        self._said[what] = now
        return line

    def _counts(self, address: str) -> bool:
        return self.per_address > 0 and address != UNIX and not self._proxies.peer(address)


def _client(address: str) -> bytes:
    plain = (plain_address(address.partition("%")[0]) or "").encode()
    return socket.inet_pton(socket.AF_INET6, plain.decode())[:8] if b":" in plain else plain
