"""Header fields that the application does not get: which of them are worth a line in the log, and how it reads.

A line comes once an hour for an address or a name, and for at most `MOST` of them in an hour: clients choose both, and
must not fill the log. Pure: it is told the time. Does not know why a field is removed (`forwarded`,
`underscored_fields`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from appsrv.http.trusted_proxies import UNIX, TrustedProxies, plain_address

# Why fields are removed: their sender is no trusted proxy; their names have an underscore, and that is not allowed, or
# is allowed to others only; such a name means the same as that of another field.
UNTRUSTED, UNDERSCORE, UNTRUSTED_UNDERSCORE, AMBIGUOUS = "untrusted", "underscore", "untrusted underscore", "ambiguous"
HOUR, MOST, LONGEST_NAME = 3600.0, 10, 60
# Proxies have such addresses, strangers on the Internet have not: they must not use up each other's lines.
_PRIVATE = TrustedProxies(
    ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "::1",
     "fc00::/7", "fe80::/10", UNIX)
)
# Clients that are no proxies send it, too.
_SAYS_NOTHING = {"X-Request-ID"}

# (why, address of the sender, names of the fields)
Tell = Callable[[str, str, list[str]], None]


class Hourly:
    """Lets each subject through once an hour, and no more than `most` subjects in an hour."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: dict[str, float] = {}

    def knows(self, subject: str) -> bool:
        """Whether the subject is one of those let through."""
        return subject in self._since

    def admits(self, subject: str, now: float) -> bool:
        """Whether it is this subject's turn."""
        since = self._since.get(subject)
        if since is not None and now - since < HOUR:
            return False
        if since is None and len(self._since) >= self._most:
            # Threads share this object: the copy cannot change while it is walked through.
            self._since = {name: when for name, when in list(self._since.items()) if now - when < HOUR}
            if len(self._since) >= self._most:
                return False
        self._since[subject] = now
        return True


class _Kinds:
    """One `Hourly` for each reason and kind of address."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._hourly: dict[str, Hourly] = {}

    def of(self, why: str, address: str) -> Hourly:
        kind = f"{why} private" if _PRIVATE.peer(address) else why
        return self._hourly.setdefault(kind, Hourly(self._most))


class Reporter:
    """In a worker: tells the server of what is removed, and not more often than the server may need it."""

    def __init__(self, tell: Tell, clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        # One more than the server names: that one tells it that there are more.
        self._kinds = _Kinds(MOST + 1)

    def removed(self, why: str, address: str, names: Iterable[str]) -> None:
        """These fields of a request are removed; `address` is the other end of the connection."""
        shown = [name[:LONGEST_NAME] for name in names if name not in _SAYS_NOTHING]
        hourly, now = self._kinds.of(why, address), self._clock()
        if why == UNTRUSTED:
            if shown and hourly.admits(address, now):
                self._tell(why, address, shown[:MOST])
            return
        for name in shown:
            if hourly.admits(name.lower(), now):
                self._tell(why, address, [name])


class RemovedFields:
    """In the server: the lines for the log. `trusted` is what `forwarded_allow_ips` has."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = trusted
        self._kinds, self._more = _Kinds(MOST), _Kinds(1)

    def lines(self, why: str, address: str, names: Sequence[str], now: float) -> list[str]:
        """What is to be logged of these fields; nothing when it has been said within the hour."""
        hourly, subject = self._kinds.of(why, address), address if why == UNTRUSTED else names[0].lower()
        if hourly.admits(subject, now):
            return [self._line(why, address, names)]
        if not hourly.knows(subject) and self._more.of(why, address).admits("", now):
            what = "addresses whose forwarded fields" if why == UNTRUSTED else "names of fields that"
            return [f"further {what} are removed will not be named within the hour"]
        return []

    def _line(self, why: str, address: str, names: Sequence[str]) -> str:
        shown, sender = ", ".join(names), _named(address)
        if why == UNTRUSTED:
            return (
                f"appsrv removes {shown} from {sender}, which is no trusted proxy. If it is your proxy, the "
                f"application takes every request for http and for the proxy's own, and may redirect to https without "
                f"end: {self._remedy(address)}"
            )
        hyphens = shown.replace("_", "-")
        line = f"the header field {shown} from {sender} is removed"
        if why == AMBIGUOUS:
            return f"{line}: to the application it is the same as {hyphens}, which only that name may set"
        line += f": to the application {shown} and {hyphens} are the same. Have {hyphens} sent"
        if why == UNDERSCORE:
            return f"{line}, or take it from trusted proxies: --underscores-in-headers trusted"
        return f"{line}, or trust the sender, where it is your proxy: {self._remedy(address)}"

    def _remedy(self, address: str) -> str:
        members = ",".join([*self._trusted, _plain(address) or UNIX])
        return f"--forwarded-allow-ips {members} (or APPSRV_FORWARDED_ALLOW_IPS)"


def _plain(address: str) -> str:
    return plain_address(address) or address


def _named(address: str) -> str:
    return _plain(address) or "the unix socket"
