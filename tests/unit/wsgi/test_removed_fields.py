"""removed_fields.py: which removed fields are named in the log, how often, and with which remedy."""

from __future__ import annotations

from appsrv.wsgi.removed_fields import (
    AMBIGUOUS,
    LOG_INTERVAL_SECONDS,
    MAX_LOGGED_SUBJECTS,
    UNDERSCORE,
    UNTRUSTED,
    UNTRUSTED_UNDERSCORE,
    RemovedFields,
    Reporter,
)

TRUSTED = ("127.0.0.0/8", "unix")
PROTO = ["X-Forwarded-Proto"]


def test_an_address_is_named_once_an_hour() -> None:
    removed = RemovedFields(TRUSTED)
    (line,) = removed.lines(UNTRUSTED, "172.17.0.1", PROTO, 0.0)
    assert "X-Forwarded-Proto from 172.17.0.1" in line
    assert "--forwarded-allow-ips 127.0.0.0/8,unix,172.17.0.1" in line
    assert removed.lines(UNTRUSTED, "172.17.0.1", PROTO, LOG_INTERVAL_SECONDS - 1) == []
    assert len(removed.lines(UNTRUSTED, "172.17.0.2", PROTO, LOG_INTERVAL_SECONDS - 1)) == 1
    assert len(removed.lines(UNTRUSTED, "172.17.0.1", PROTO, LOG_INTERVAL_SECONDS)) == 1


def test_a_unix_socket_and_a_mapped_address_are_named_as_the_setting_wants_them() -> None:
    assert RemovedFields(()).lines(UNTRUSTED, "", PROTO, 0.0)[0].count("--forwarded-allow-ips unix ") == 1
    assert "10.0.0.9 (or" in RemovedFields(()).lines(UNTRUSTED, "::ffff:10.0.0.9", PROTO, 0.0)[0]


def test_many_addresses_do_not_fill_the_log_nor_hide_a_proxy() -> None:
    removed = RemovedFields(TRUSTED)
    strangers = [f"203.0.{high}.{low}" for high in range(20) for low in range(200)]
    lines = [line for address in strangers for line in removed.lines(UNTRUSTED, address, PROTO, 1.0)]
    assert len(lines) == MAX_LOGGED_SUBJECTS + 1
    assert "will not be named" in lines[-1]
    assert len(removed.lines(UNTRUSTED, "10.0.0.9", PROTO, 1.0)) == 1, "a proxy has lines of its own"
    now = LOG_INTERVAL_SECONDS + 1.0
    later = [line for address in strangers for line in removed.lines(UNTRUSTED, address, PROTO, now)]
    assert len(later) == MAX_LOGGED_SUBJECTS + 1


def test_names_with_underscores() -> None:
    removed = RemovedFields(TRUSTED)
    (line,) = removed.lines(UNDERSCORE, "10.0.0.9", ["X_Token"], 0.0)
    assert "X_Token" in line
    assert "Have X-Token sent" in line
    assert "--underscores-in-headers trusted" in line
    assert removed.lines(UNDERSCORE, "10.0.0.8", ["x_token"], 0.0) == [], "once for a name, however it is spelled"
    assert "--forwarded-allow-ips" in removed.lines(UNTRUSTED_UNDERSCORE, "10.0.0.9", ["X_Token"], 0.0)[0]
    assert "the same as X-Token" in removed.lines(AMBIGUOUS, "10.0.0.9", ["X_Token"], 0.0)[0]


def test_a_worker_tells_no_more_than_the_server_needs() -> None:
    told: list[tuple[str, str, list[str]]] = []
    now = [0.0]
    reporter = Reporter(lambda *what: told.append(what), lambda: now[0])
    for number in range(1000):
        reporter.removed(UNTRUSTED, f"203.0.113.{number % 250}", PROTO)
        reporter.removed(UNDERSCORE, "203.0.113.1", [f"X_{number}"])
    assert len(told) == 2 * (MAX_LOGGED_SUBJECTS + 1), "the last of each tells that there are more"
    told.clear()
    reporter.removed(UNTRUSTED, "10.0.0.9", ["X-Request-ID"])
    assert told == [], "clients send that, too"
    reporter.removed(UNDERSCORE, "10.0.0.9", ["X_" + "y" * 9000])
    assert len(told[0][2][0]) < 100
    now[0] = LOG_INTERVAL_SECONDS
    reporter.removed(UNDERSCORE, "203.0.113.1", ["X_0"])
    assert told[-1] == (UNDERSCORE, "203.0.113.1", ["X_0"])


def test_private_addresses_with_forwarded_fields_are_remembered_for_an_hour() -> None:
    removed = RemovedFields(TRUSTED)
    for address in ("10.0.0.2", "203.0.113.9", "::ffff:10.0.0.3"):
        removed.lines(UNTRUSTED, address, ["X-Forwarded-For"], 100.0)
    removed.lines(UNDERSCORE, "10.0.0.4", ["X_Token"], 100.0)
    # Of the public addresses each may be a client.
    assert removed.untrusted(200.0) == {"10.0.0.2": ["X-Forwarded-For"], "10.0.0.3": ["X-Forwarded-For"]}
    removed.lines(UNTRUSTED, "10.0.0.2", ["Forwarded"], 3800.0)
    assert removed.untrusted(3900.0) == {"10.0.0.2": ["Forwarded"]}
    for number in range(300):
        removed.lines(UNTRUSTED, f"10.0.1.{number % 256}", ["Forwarded"], 4000.0 + number * 60)
    assert len(removed.untrusted(4000.0 + 300 * 60)) <= 60
