"""server/frontend_setup.py: what the settings ask of the front end."""

from __future__ import annotations

import logging
import resource
import time
from typing import Any

import pytest

from appsrv.http.head import parse_head
from appsrv.http.syntax import Limits, RequestHead
from appsrv.server.frontend.frontend import not_served
from appsrv.server.frontend_setup import answer_unserved, connection_limits_of, frontend_of
from appsrv.settings.table import Settings

PLAIN: dict[str, Any] = {"tls": False}


def head_of(path: str) -> RequestHead:
    parsed = parse_head(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), Limits())
    assert parsed is not None
    return parsed[0]


def test_a_probe_for_no_application_is_answered_for_the_instance() -> None:
    stopping = False
    respond = answer_unserved("/up", lambda: stopping)
    assert respond(head_of("/up")).status == 200
    stopping = True
    assert (respond(head_of("/up")).status, respond(head_of("/")).status) == (503, 404)
    assert answer_unserved(None, lambda: True) is not_served


def test_only_listeners_that_need_it_have_a_preamble() -> None:
    plain, tls = frontend_of(Settings(), [PLAIN, PLAIN], development=False, clock=time.monotonic)
    assert (plain.preambles, tls) == ({}, None)
    proxied, _ = frontend_of(Settings(proxy_protocol=True), [PLAIN, PLAIN], development=False, clock=time.monotonic)
    assert sorted(proxied.preambles) == [0, 1]


@pytest.mark.parametrize(("certificate", "each"), [(None, 1), ("certificate.pem", 3)])
def test_connections_are_limited_by_the_descriptors_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, certificate: str | None, each: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1200, 1200))
    settings = Settings(max_connections=5000, ssl_certificate=certificate)
    with caplog.at_level(logging.WARNING):
        limits = connection_limits_of(settings)
    assert 0 < limits.max_connections <= 1200 // each
    assert f"max_connections is {limits.max_connections}, not 5000" in caplog.text
    caplog.clear()
    assert connection_limits_of(Settings(max_connections=10, ssl_certificate=certificate)).max_connections == 10
    assert not caplog.text
