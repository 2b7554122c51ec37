"""connection_limits.py: who counts as one client, who is not counted, what is said how often."""

from __future__ import annotations

import pytest

from appsrv.http.connection_limits import ConnectionLimits, connection_limit
from appsrv.http.trusted_proxies import TrustedProxies


def limits(per_address: int = 2) -> ConnectionLimits:
    return ConnectionLimits(100, per_address, TrustedProxies(("127.0.0.0/8", "unix", "10.0.0.0/8")))


@pytest.mark.parametrize(
    ("wanted", "descriptors", "most"),
    [(-1, 1024, 896), (0, 20000, 17500), (500, 1024, 500), (5000, 1024, 896), (-1, 100, 36), (-1, 64, 1)],
)
def test_connections_leave_descriptors_for_the_rest(wanted: int, descriptors: int, most: int) -> None:
    assert connection_limit(wanted, descriptors) == most


def test_a_connection_may_take_several_descriptors() -> None:
    assert connection_limit(-1, 1024, 3) == 298
    assert connection_limit(-1, 64, 3) == 1


def test_an_address_is_full_until_one_leaves() -> None:
    made = limits()
    made.opened(1, "192.0.2.1")
    assert not made.has_too_many("192.0.2.1")
    made.opened(2, "192.0.2.1")
    assert made.has_too_many("192.0.2.1")
    assert not made.has_too_many("192.0.2.2")
    made.closed(3)
    assert made.has_too_many("192.0.2.1")
    made.closed(1)
    assert not made.has_too_many("192.0.2.1")


@pytest.mark.parametrize("proxy", ["", "127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3"])
def test_proxies_and_unix_sockets_have_no_limit(proxy: str) -> None:
    made = limits()
    for cid in range(10):
        made.opened(cid, proxy)
    assert not made.has_too_many(proxy)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_who_is_one_client(one: str, other: str, same: bool) -> None:
    made = limits(per_address=1)
    made.opened(1, one)
    assert made.has_too_many(other) is same
    assert made.same_client(one, other) is same


def test_without_a_limit_nobody_is_counted() -> None:
    made = limits(per_address=0)
    made.opened(1, "192.0.2.1")
    assert not made.has_too_many("192.0.2.1")
    made.closed(1)


def test_each_thing_is_said_once_in_a_while() -> None:
    made = limits()
    assert "closed to make room (5 so far)" in (made.count_closed_idle(5, 0.0) or "")
    assert made.count_closed_idle(1, 59.9) is None
    assert "Too many open files" in (made.count_pause("Too many open files", 59.9) or "")
    assert "(7 so far)" in (made.count_closed_idle(1, 60.0) or "")
    assert "connections of 192.0.2.1 are refused" in (made.count_refused("192.0.2.1", 10.0) or "")
    assert made.count_refused("192.0.2.1", 10.1) is None
