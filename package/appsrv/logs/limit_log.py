"""Log lines about requests that exceeded a limit: each names the setting, and comes once a minute at most. Pure.

The count is kept per setting, for the front end and all workers together. The caller passes the time
(`time.monotonic()`). Knows neither connections nor responses.
"""

from __future__ import annotations

import math
from collections import Counter

from appsrv.errors import ClientDisconnected, Limit, RequestError

LOG_INTERVAL_SECONDS = 60.0
"""The least time between two lines about the same setting."""


def outcome_of(error: RequestError | ClientDisconnected) -> str:
    """The outcome of a request that exceeded a limit, as the beginning of a log line."""
    if isinstance(error, RequestError):
        return f"a request was answered {error.status} ({error.reason})"
    return f"a connection was closed ({error})"


class LimitLog:
    """Counts by setting, and makes one line for each setting and minute."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._logged_at: dict[str, float] = {}

    def count(self, limit: Limit, outcome: str, peer: str, now: float) -> str | None:
        """Count a request that exceeded `limit`. Returns the line to log, or None within a minute of the last one.

        `peer` is the client's address, empty on a unix socket.
        """
        setting, value = limit
        self._counts[setting] += 1
        if now < self._logged_at.get(setting, -math.inf) + LOG_INTERVAL_SECONDS:
            return None
        self._logged_at[setting] = now
        return (
            f"{outcome}, of {peer or 'the unix socket'}: the setting {setting} is {value}; "
            f"{self._counts[setting]} so far, logged once a minute"
        )
