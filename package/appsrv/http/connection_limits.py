"""Limits of the number of connections: of all clients, and of one address. Pure: counts the connections.

The front end closes connections and waits.
"""

from __future__ import annotations

import socket
from collections import Counter

from appsrv.http.trusted_proxies import TrustedProxies, plain_address

LOG_INTERVAL_SECONDS = 60.0
MIN_RESERVED_DESCRIPTORS = 64
# Behind TLS a connection takes the client's descriptor and both ends of the relay's socket pair.
DESCRIPTORS_WITH_TLS = 3
UNIX = ""


def connection_limit(wanted: int, descriptors: int, each: int = 1) -> int:
    """The effective limit: `wanted` (0 or less: unlimited), as far as the process's limit of descriptors allows it.

    `each`: the descriptors per connection. An eighth of `descriptors` is reserved for other files: buffered bodies and
    responses, channels, logs.
    """
    possible = max(1, (descriptors - max(MIN_RESERVED_DESCRIPTORS, descriptors // 8)) // each)
    return min(wanted, possible) if wanted > 0 else possible


class ConnectionLimits:
    """`max_connections`: the limit for all clients together; `per_address`: for one client address, 0: unlimited.

    The second limit does not apply to trusted proxies, which forward the requests of many clients, nor to unix sockets.
    A /64 network of IPv6 counts as one address, because one client usually has all of it.
    """

    def __init__(self, max_connections: int, per_address: int, proxies: TrustedProxies) -> None:
        self.max_connections = max_connections
        self.per_address = per_address
        self.closed_idle = 0
        self.refused = 0
        self.pauses = 0
        self._proxies = proxies
        self._clients: dict[int, bytes] = {}
        self._of: Counter[bytes] = Counter()
        self._logged_at: dict[str, float] = {}

    def opened(self, cid: int, address: str) -> None:
        """Count a new connection from this address."""
        if self._counts(address):
            client = self._clients[cid] = _client(address)
            self._of[client] += 1

    def closed(self, cid: int) -> None:
        """Count a connection that was closed."""
        client = self._clients.pop(cid, None) if self._clients else None
        if client is not None:
            self._of[client] -= 1
            if not self._of[client]:
                del self._of[client]

    def has_too_many(self, address: str) -> bool:
        """Whether this address has reached `per_address`."""
        return self._counts(address) and self._of[_client(address)] >= self.per_address

    def same_client(self, one: str, other: str) -> bool:
        """Whether two addresses count as one."""
        return one == other or (self._counts(one) and self._counts(other) and _client(one) == _client(other))

    @property
    def close_batch(self) -> int:
        """The number of idle connections to close together: to find the oldest ones, all are examined."""
        return max(1, self.max_connections // 64)

    # -- log lines: at most one of each kind per LOG_INTERVAL_SECONDS ------------------------------------------------

    def count_closed_idle(self, count: int, now: float) -> str | None:
        """Count idle connections that were closed to make room. Returns a log line or None; `now` is monotonic."""
        self.closed_idle += count
        return self._rate_limited(
            "idle", now,
            f"max_connections ({self.max_connections}) or the limit of descriptors is reached: the connections idle "
            f"longest are closed to make room ({self.closed_idle} so far)",
        )

    def count_pause(self, reason: str, now: float) -> str | None:
        """Count a pause in which no connection is accepted. Returns a log line or None."""
        self.pauses += 1
        return self._rate_limited(
            "pause", now,
            f"cannot accept connections: {reason}; none is idle that could be closed, so new clients wait",
        )

    def count_refused(self, address: str, now: float) -> str | None:
        """Count a connection that was refused with 429. Returns a log line or None."""
        self.refused += 1
        return self._rate_limited(
            "refused", now,
            f"connections of {address} are refused: it has max_connections_per_address ({self.per_address}) of them "
            f"({self.refused} refused so far)",
        )

    def _rate_limited(self, what: str, now: float, line: str) -> str | None:
        if now < self._logged_at.get(what, now - LOG_INTERVAL_SECONDS) + LOG_INTERVAL_SECONDS:
            return None
        self._logged_at[what] = now
        return line

    def _counts(self, address: str) -> bool:
        return self.per_address > 0 and address != UNIX and not self._proxies.peer(address)


def _client(address: str) -> bytes:
    plain = (plain_address(address.partition("%")[0]) or "").encode()
    return socket.inet_pton(socket.AF_INET6, plain.decode())[:8] if b":" in plain else plain
