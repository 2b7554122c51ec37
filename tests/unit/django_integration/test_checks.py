"""`manage.py check --deploy`: what appsrv adds, each question with data instead of a project."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("django")

from appsrv.settings.table import Settings
from appsrv_django import checks

PLAIN = Settings()
THREADED = replace(PLAIN, threads=4, max_pool_size=3)


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["appsrv_django", "whitenoise.runserver_nostatic"], 0),
        (["whitenoise.runserver_nostatic", "appsrv_django", "django.contrib.staticfiles"], 1),
        (["daphne", "django.contrib.staticfiles", "appsrv_django"], 2),
        (["daphne", "django.contrib.staticfiles"], 0),
    ],
)
def test_order_of_the_overrides(names: list[str], expected: int) -> None:
    found = checks._check_order(names, lambda name: name != "appsrv_django")
    assert ids(found) == ["appsrv.W001"] * expected


@pytest.mark.parametrize(
    ("allowed", "health_path", "health_host", "expected"),
    [
        (["shop.example"], None, None, []),
        (["*"], None, None, ["appsrv.W002"]),
        (["shop.example"], "/up", None, ["appsrv.W005"]),
        (["shop.example", "127.0.0.1"], "/up", None, []),
        (["shop.example"], "/up", "shop.example:8000", []),
        ([".shop.example"], "/up", "www.shop.example", []),
        (["shop.example", "127.0.0.1"], "/up", "www.shop.example", ["appsrv.W005"]),
    ],
)
def test_hosts(allowed: list[str], health_path: str | None, health_host: str | None, expected: list[str]) -> None:
    server = replace(PLAIN, health_path=health_path, health_host=health_host)
    assert ids(checks._check_hosts(allowed, server)) == expected


@pytest.mark.parametrize(
    ("server", "age", "expected"),
    [(PLAIN, 60, []), (THREADED, 0, []), (THREADED, 60, ["appsrv.W003"]), (THREADED, None, ["appsrv.W003"])],
)
def test_age_of_connections(server: Settings, age: int | None, expected: list[str]) -> None:
    found = checks._check_connection_age({"default": {"CONN_MAX_AGE": age}}, server)
    assert ids(found) == expected
    if found:
        assert "12 in all" in found[0].msg


@pytest.mark.parametrize(("most", "expected"), [(None, []), (100, []), (12, ["appsrv.W004"])])
def test_connections_that_the_database_takes(most: int | None, expected: list[str]) -> None:
    assert ids(checks._check_connections("default", most, THREADED)) == expected


TLS = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.parametrize(
    ("redirects", "header", "server", "where"),
    [
        (True, None, {"address": "0.0.0.0"}, "from another machine"),
        (False, TLS, {"address": "0.0.0.0"}, "from another machine"),
        (True, TLS, {"forwarded_allow_ips": ()}, "from this machine"),
        (True, TLS, {"socket": "/run/s", "forwarded_allow_ips": ("127.0.0.1",)}, "to the unix socket"),
        (True, TLS, {}, None),
        (True, TLS, {"socket": "/run/s"}, None),
        (True, TLS, {"address": "0.0.0.0", "forwarded_allow_ips": ("127.0.0.0/8", "10.0.0.0/8")}, None),
        (True, TLS, {"address": "0.0.0.0", "forwarded_allow_ips": ("*",)}, None),
        (True, None, {"address": "0.0.0.0", "ssl_certificate": "/c.pem"}, None),
        (True, ("HTTP_X_OUR_OWN_PROTO", "https"), {"address": "0.0.0.0"}, None),
        (False, None, {"address": "0.0.0.0"}, None),
    ],
)
def test_a_proxy_that_is_not_trusted(
    redirects: bool, header: tuple[str, str] | None, server: dict[str, Any], where: str | None
) -> None:
    found = checks._check_proxy(redirects, header, replace(PLAIN, **server))
    assert ids(found) == (["appsrv.W007"] if where else [])
    assert not found or (where or "") in found[0].msg


def test_settings_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPSRV_THREADS", "many")
    assert ids(checks.check_deployment(None)) == ["appsrv.E001"]
