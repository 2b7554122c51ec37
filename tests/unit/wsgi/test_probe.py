"""probe.py: one path that the application never sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from appsrv.wsgi.probe import PROBED, answer, is_probe, with_probe
from support.served import Served, app_of

PATH = "/-/healthy"


def served(method: str, target: str, stopping: bytes = b"\0") -> Served:
    return Served(with_probe(app_of([b"the application"]), PATH, stopping), method, target=target)


@pytest.mark.parametrize(
    ("method", "stopping", "expected"),
    [("GET", b"\0", (200, b"ok\n")), ("GET", b"\1", (503, b"stopping\n")), ("HEAD", b"\0", (200, b"")),
     ("HEAD", b"\1", (503, b"")), ("POST", b"\0", (405, b"Method not allowed: use GET.\n")),
     ("OPTIONS", b"\1", (405, b"Method not allowed: use GET.\n"))],
)  # fmt: skip
def test_answers(method: str, stopping: bytes, expected: tuple[int, bytes]) -> None:
    reply = served(method, PATH, stopping)
    assert (reply.status, reply.body, reply.complete) == (*expected, True)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-length"] == {200: "3", 503: "9", 405: "29"}[reply.status]
    assert reply.headers.get("allow") == ("GET, HEAD" if reply.status == 405 else None)
    assert reply.outcome.keep_alive


@pytest.mark.parametrize("target", ["/-/healthy?from=balancer", "/%2D/healthy", "http://a.example/-/healthy"])
def test_other_ways_to_write_it(target: str) -> None:
    assert served("GET", target).body == b"ok\n"


@pytest.mark.parametrize("target", ["/", "/-/healthy/", "/-/health", "/x/-/healthy", "//-/healthy", "/?/-/healthy"])
def test_everything_else_is_the_applications(target: str) -> None:
    assert served("GET", target, b"\1").body == b"the application"


def test_off_it_is_not_there() -> None:
    application = app_of([b"the application"])
    assert with_probe(application, None, b"\0") is application
    assert not is_probe({"PATH_INFO": PATH}, None)


def test_who_tells_of_requests_can_know_it() -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return []

    for path in (PATH, "/"):
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET"}
        list(with_probe(application, PATH, b"\0")(environ, lambda *_: None))
        assert (PROBED in environ) == (path == PATH)
    assert answer("GET").unlogged
