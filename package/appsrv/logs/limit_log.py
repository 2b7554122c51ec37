"""What the log has of requests that a limit ended: the setting that made it, once in a while. Pure: told the time.

Counts by setting, whichever process has refused. Knows neither connections nor answers.
"""

from __future__ import annotations

import math
from collections import Counter

from appsrv.errors import ClientDisconnected, Limit, RequestError

SAY_AGAIN = 60.0
"""Seconds from one line about a setting to the next."""


def outcome_of(error: RequestError | ClientDisconnected) -> str:
    """What came of it, in words."""
    if isinstance(error, RequestError):
        return f"a request was answered {error.status} ({error.reason})"
    return f"a connection was closed ({error})"


class LimitLog:
    """One line for each setting and minute."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._said: dict[str, float] = {}

    def count(self, limit: Limit, outcome: str, peer: str, now: float) -> str | None:
        """A limit ended something; returns what to log, now and then. `peer` is empty for a unix socket."""
        setting, value = limit
        self._counts[setting] += 1
        if now < self._said.get(setting, -math.inf) + SAY_AGAIN:
            return None
        self._said[setting] = now
        return (
            f"{outcome}, of {peer or 'the unix socket'}: the setting {setting} is {value}; "
            f"{self._counts[setting]} so far, logged once a minute"
        )
