"""routes.py and shared_routes.py: whose a request is, in every process."""

from __future__ import annotations

import os

import pytest

from appsrv.apps.routes import Clash, Route, Routes, plain_host
from appsrv.apps.shared_routes import RouteTable

ROUTES = Routes([
    Route(("shop.example", "www.shop.example"), "", "shop"),
    Route(("shop.example",), "/blog", "blog"),
    Route(("shop.example",), "/blog/admin", "admin"),
    Route(("*.shop.example",), "", "any shop"),
    Route(("*.eu.shop.example",), "/x", "european"),
    Route((), "", "rest"),
    Route((), "/api", "api"),
])  # fmt: skip


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        ("shop.example", "/", "shop"),
        ("SHOP.example:8000", "/blogs", "shop"),
        ("shop.example.", "/blog", "blog"),
        ("shop.example", "/blog/", "blog"),
        ("shop.example", "/blog/admin/x", "admin"),
        ("shop.example", "/blog/administrator", "blog"),
        ("www.shop.example", "/blog", "shop"),
        ("a.shop.example", "/", "any shop"),
        ("a.b.shop.example", "/api", "any shop"),
        ("de.eu.shop.example", "/x/1", "european"),
        ("de.eu.shop.example", "/y", "any shop"),
        ("other.example", "/api/1", "api"),
        ("other.example", "/", "rest"),
        ("example", "", "rest"),
        ("", "/api", "api"),
        ("[::1]:8000", "/", "rest"),
        ("*", "*", "rest"),
    ],
)
def test_the_most_special_application_that_takes_the_path(host: str, path: str, name: str) -> None:
    assert ROUTES.find(host, path) == name
    assert ROUTES.clashes == []


def test_nobody_is_an_answer() -> None:
    routes = Routes([Route(("shop.example",), "", "shop"), Route((), "/api", "api")])
    assert routes.find("other.example", "/") is None
    assert routes.find("", "/apis") is None
    assert Routes().find("shop.example", "/") is None


def test_of_two_at_one_place_the_first_is_served() -> None:
    places = ((("a", "b"), "/x", "one"), (("b",), "/x", "two"), ((), "", "three"), ((), "", "4"))
    routes = Routes(Route(*place) for place in places)
    assert routes.find("b", "/x") == "one"
    assert routes.clashes == [Clash("one", "two", "b/x"), Clash("three", "4", "any host/")]


@pytest.mark.parametrize(
    ("host", "plain"), [("A.b:80", "a.b"), ("[::1]", "[::1]"), ("[::1]:8000", "[::1]"), ("a.b.", "a.b"), ("", "")]
)
def test_what_of_a_host_field_counts(host: str, plain: str) -> None:
    assert plain_host(host) == plain


def test_other_processes_see_new_routes_at_once() -> None:
    table = RouteTable.create()
    reader = RouteTable(os.dup(table.fd))
    assert reader.routes().find("a", "/") is None
    table.write(ROUTES)
    assert reader.routes().find("shop.example", "/blog") == "blog"
    before = reader.routes()
    assert reader.routes() is before, "read once"
    table.write(Routes([Route((), "", "another")]))
    assert reader.routes().find("shop.example", "/blog") == "another"
    os.close(table.fd)
    os.close(reader.fd)


def test_while_they_are_written_the_old_ones_are_read() -> None:
    table = RouteTable.create()
    table.write(ROUTES)
    reader = RouteTable(os.dup(table.fd))
    assert reader.routes().find("shop.example", "/") == "shop"
    table._memory[:8] = (5).to_bytes(8, "little")
    assert reader.routes().find("shop.example", "/") == "shop"
    os.close(table.fd)
    os.close(reader.fd)


def test_too_many_routes_are_refused() -> None:
    table = RouteTable.create()
    with pytest.raises(ValueError, match="too many"):
        table.write(Routes(Route((), f"/{'x' * 10000}{n}", "name") for n in range(2000)))
    os.close(table.fd)
