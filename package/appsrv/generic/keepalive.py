"""How long an idle connection to a generic application's process may be used again.

Learned from the process: from the `Keep-Alive: timeout` of its responses, and from the connections that it has closed.
Pure: knows neither sockets nor the clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["ReuseLimit", "announced_timeout"]

# Node.js and uvicorn close a connection that has been idle for 5 s. A request must not cross that close on its way.
DEFAULT_LIMIT_SECONDS = 4.0
# A request that must not be sent twice goes over a connection that was in use this short a time ago, or over a new one.
JUST_USED_SECONDS = 0.1
# A process closes its idle connections for other reasons, too, for example when it reloads. Such an observation
# expires.
OBSERVATION_LIFETIME_SECONDS = 60.0
# The share of an observed or announced timeout within which a connection counts as open.
SAFE_SHARE = 0.75

_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)


def announced_timeout(fields: Iterable[tuple[str, str]]) -> int | None:
    """The seconds of `Keep-Alive: timeout=N` among the fields of a response (RFC 2068 section 19.7.1.1), or None."""
    for name, value in fields:
        if name.lower() == "keep-alive" and (match := _TIMEOUT.search(value)):
            return int(match[1])
    return None


class ReuseLimit:
    """The longest idle time, in seconds, after which a connection is used again."""

    def __init__(self) -> None:
        self._announced = DEFAULT_LIMIT_SECONDS
        self._observed = DEFAULT_LIMIT_SECONDS
        self._observed_until = 0.0

    def announce(self, seconds: float) -> None:
        """The process has announced its timeout."""
        self._announced = min(DEFAULT_LIMIT_SECONDS, seconds * SAFE_SHARE)

    def observe_close(self, idle: float, now: float) -> None:
        """The process has closed a connection that was still open after `idle` seconds without a request."""
        current = self._observed if now < self._observed_until else DEFAULT_LIMIT_SECONDS
        self._observed = min(current, idle * SAFE_SHARE)
        self._observed_until = now + OBSERVATION_LIFETIME_SECONDS

    def seconds(self, now: float, *, repeatable: bool) -> float:
        """The limit for a request; `repeatable`: it may be sent again if the process closes the connection meanwhile.

        RFC 9110 section 9.2.2 forbids to repeat a request that is not idempotent, and RFC 9112 section 9.3.1 lets a
        server close an idle connection at any time. A client cannot tell whether the server has read the request
        before. So such a request avoids every connection that may be about to be closed.
        """
        learned = min(self._announced, self._observed if now < self._observed_until else DEFAULT_LIMIT_SECONDS)
        return learned if repeatable else min(JUST_USED_SECONDS, learned)
