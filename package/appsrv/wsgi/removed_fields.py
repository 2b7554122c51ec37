"""The log lines about header fields that appsrv removes before the application sees the request.

An address or a field name gets one line an hour, and at most `MAX_LOGGED_SUBJECTS` of them get one within an hour.
Clients choose both, so without these limits they could fill the log. Pure: the caller passes the time. The rules for
the removal are in `forwarded` and `underscored_fields`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from appsrv.http.trusted_proxies import UNIX, TrustedProxies, plain_address

# The reasons for a removal: the sender is not a trusted proxy; the name has an underscore, and no such name is
# accepted; it has one, and only trusted proxies may send it; its CGI name is also that of another field.
UNTRUSTED, UNDERSCORE, UNTRUSTED_UNDERSCORE, AMBIGUOUS = "untrusted", "underscore", "untrusted underscore", "ambiguous"
LOG_INTERVAL_SECONDS, MAX_LOGGED_SUBJECTS, MAX_NAME_CHARACTERS = 3600.0, 10, 60
# Addresses of proxies in a private network. They are counted apart from public addresses, so that clients on the
# Internet cannot use up the lines that would name a misconfigured proxy.
_PRIVATE = TrustedProxies(
    ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "::1",
     "fc00::/7", "fe80::/10", UNIX)
)
# Ordinary clients send this field as well, so it is no sign of a proxy.
_SENT_BY_CLIENTS = {"X-Request-ID"}

# Arguments: reason, address of the sender, names of the fields.
Report = Callable[[str, str, list[str]], None]


class HourlyLimit:
    """A rate limit: admits each subject once an hour, and at most `max_subjects` subjects within an hour."""

    def __init__(self, max_subjects: int) -> None:
        self._max_subjects = max_subjects
        self._admitted_at: dict[str, float] = {}

    def knows(self, subject: str) -> bool:
        """Whether the subject was admitted within the hour."""
        return subject in self._admitted_at

    def admits(self, subject: str, now: float) -> bool:
        """Whether the subject may be logged at `now` (seconds of a monotonic clock); if so, this is recorded."""
        since = self._admitted_at.get(subject)
        if since is not None and now - since < LOG_INTERVAL_SECONDS:
            return False
        if since is None and len(self._admitted_at) >= self._max_subjects:
            # Threads share this object. `list` copies the items in one step, so no other thread can change the
            # dictionary during the iteration.
            admitted = list(self._admitted_at.items())
            self._admitted_at = {name: when for name, when in admitted if now - when < LOG_INTERVAL_SECONDS}
            if len(self._admitted_at) >= self._max_subjects:
                return False
        self._admitted_at[subject] = now
        return True


class _LimitsByKind:
    """One `HourlyLimit` for each reason, and for private and public addresses."""

    def __init__(self, max_subjects: int) -> None:
        self._max_subjects = max_subjects
        self._by_kind: dict[str, HourlyLimit] = {}

    def of(self, why: str, address: str) -> HourlyLimit:
        kind = f"{why} private" if _PRIVATE.peer(address) else why
        return self._by_kind.setdefault(kind, HourlyLimit(self._max_subjects))


class Reporter:
    """In a worker: reports removed fields to the server, within the server's own limits for the log."""

    def __init__(self, report: Report, clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        # One more than the server logs by name: from the surplus one the server learns that there are more.
        self._limits = _LimitsByKind(MAX_LOGGED_SUBJECTS + 1)

    def removed(self, why: str, address: str, names: Iterable[str]) -> None:
        """Report that these fields of a request were removed; `address` is the peer of the connection."""
        shown = [name[:MAX_NAME_CHARACTERS] for name in names if name not in _SENT_BY_CLIENTS]
        hourly, now = self._limits.of(why, address), self._clock()
        if why == UNTRUSTED:
            if shown and hourly.admits(address, now):
                self._report(why, address, shown[:MAX_LOGGED_SUBJECTS])
            return
        for name in shown:
            if hourly.admits(name.lower(), now):
                self._report(why, address, [name])


class RemovedFields:
    """In the server: makes the lines of the log. `trusted`: the members of the setting `forwarded_allow_ips`."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = trusted
        self._limits, self._more = _LimitsByKind(MAX_LOGGED_SUBJECTS), _LimitsByKind(1)
        # By address: when its forwarded fields were logged last, and their names. Private addresses only, see _PRIVATE.
        self._untrusted: dict[str, tuple[float, list[str]]] = {}

    def untrusted(self, now: float) -> dict[str, list[str]]:
        """The private addresses that have sent forwarded fields within the hour without being trusted, and the names.

        They are probably proxies. A public address may be any client.
        """
        return {
            address: names for address, (when, names) in self._untrusted.items() if now - when < LOG_INTERVAL_SECONDS
        }

    def lines(self, why: str, address: str, names: Sequence[str], now: float) -> list[str]:
        """The lines to log about these fields; none if the subject was logged within the hour."""
        hourly, subject = self._limits.of(why, address), address if why == UNTRUSTED else names[0].lower()
        if hourly.admits(subject, now):
            if why == UNTRUSTED and _PRIVATE.peer(address):
                self._remember(_plain(address), names, now)
            return [self._line(why, address, names)]
        if not hourly.knows(subject) and self._more.of(why, address).admits("", now):
            what = "addresses whose forwarded fields" if why == UNTRUSTED else "names of fields that"
            return [f"further {what} are removed will not be named within the hour"]
        return []

    def _remember(self, address: str, names: Sequence[str], now: float) -> None:
        # `HourlyLimit` bounds the number of addresses within an hour. Older ones are dropped here.
        recent = self.untrusted(now)
        self._untrusted = {name: entry for name, entry in self._untrusted.items() if name in recent}
        self._untrusted[address] = (now, list(names))

    def _line(self, why: str, address: str, names: Sequence[str]) -> str:
        shown, sender = ", ".join(names), _named(address)
        if why == UNTRUSTED:
            return (
                f"appsrv removes {shown} from {sender}, which is not a trusted proxy. If it is your proxy, the "
                f"application sees every request as plain http from the proxy itself, and may redirect to https "
                f"endlessly: {self._remedy(address)}"
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
