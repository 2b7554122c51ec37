"""The head that the process behind the proxy gets: what stays, what goes, what is said anew."""

from __future__ import annotations

import io
from typing import Any

import pytest

from appsrv.generic.request import UpstreamRequest, request_of
from appsrv.wsgi.environ import build_environ, environ_base
from appsrv.wsgi.underscored_fields import KEY as UNDERSCORED
from appsrv.wsgi.underscored_fields import sort_out
from appsrv.wsgi.upstream_hooks import KEY, Proxied
from support.served import head_of


def made(
    text: str, *, length: int | None = None, streamed: bool = False, switch: bool = True,
    more: dict[str, Any] | None = None,
) -> UpstreamRequest:
    head = head_of(text.replace("\n", "\r\n"))
    base = environ_base(
        server_name="127.0.0.1", server_port=8000, multithread=True, multiprocess=True, errors=io.StringIO()
    )
    environ = build_environ(base, head, io.BytesIO(), length, "10.0.0.9", "1234")
    proxied = Proxied(head)
    proxied.streamed, proxied.may_switch = streamed, switch
    environ[KEY] = proxied
    return request_of(environ | (more or {}))


def lines(request: UpstreamRequest) -> list[str]:
    assert request.head.endswith(b"\r\n\r\n")
    return request.head.decode("latin-1").split("\r\n")[:-2]


def fields(request: UpstreamRequest, *names: str) -> list[str]:
    return [line for line in lines(request) if line.partition(":")[0].lower() in names]


def test_order_case_and_repetition_stay() -> None:
    request = made("GET /a?b HTTP/1.1\nB: 1\nHost: x\na: 2\nB: 3\n\n")
    assert lines(request)[:5] == ["GET /a?b HTTP/1.1", "B: 1", "Host: x", "a: 2", "B: 3"]
    assert (request.method, request.length, request.upgrade, request.idempotent) == ("GET", 0, b"", True)


def test_what_was_between_two_goes() -> None:
    request = made(
        "GET / HTTP/1.1\nHost: x\nConnection: keep-alive, Mine\nKeep-Alive: 5\nProxy-Connection: x\nTE: trailers\n"
        "Trailer: a\nUpgrade: websocket\nMine: 1\nProxy: http://evil\nA_b: 1\nKept: yes\n\n"
    )
    assert [line.partition(":")[0] for line in lines(request)[1:3]] == ["Host", "Kept"]
    assert request.upgrade == b"", "Connection does not name it"


def test_names_with_underscores_go_unless_they_were_taken() -> None:
    text = "GET / HTTP/1.1\nHost: x\nX_Token: 1\nX_Forwarded_For: 6.6.6.6\n\n"
    assert fields(made(text), "x_token", "x_forwarded_for") == []
    found = sort_out(head_of(text.replace("\n", "\r\n")).headers, ())
    assert fields(made(text, more={UNDERSCORED: found.taken}), "x_token", "x_forwarded_for") == ["X_Token: 1"]


def test_host_cannot_be_named_away() -> None:
    assert fields(made("GET / HTTP/1.1\nHost: x\nConnection: host\n\n"), "host") == ["Host: x"]


def test_what_is_known_of_the_client_is_said_anew() -> None:
    request = made(
        "GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 6.6.6.6\nForwarded: for=6.6.6.6\nX-Real-IP: 6.6.6.6\n"
        "X-Request-ID: theirs\n\n",
        more={"HTTP_X_REQUEST_ID": "ours", "wsgi.url_scheme": "https", "SCRIPT_NAME": "/shop"},
    )
    assert lines(request)[2:] == [
        "X-Forwarded-For: 10.0.0.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: x", "X-Forwarded-Port: 8000",
        "X-Forwarded-Prefix: /shop", "X-Request-ID: ours",
    ]  # fmt: skip


def test_a_prefix_is_said_as_it_stands_in_urls() -> None:
    request = made("GET / HTTP/1.1\nHost: x\n\n", more={"SCRIPT_NAME": "/a b?/c\xc3\xb6/(d)"})
    assert fields(request, "x-forwarded-prefix") == ["X-Forwarded-Prefix: /a%20b%3F/c%C3%B6/(d)"]


def test_an_unknown_client_is_not_named() -> None:
    assert fields(made("GET / HTTP/1.1\nHost: x\n\n", more={"REMOTE_ADDR": ""}), "x-forwarded-for") == []


@pytest.mark.parametrize(
    ("target", "host", "sent"),
    [
        ("http://b.example/x?y", "b.example", "/x?y"),
        ("http://b.example", "b.example", "/"),
        ("http://b.example:81?y", "b.example:81", "/?y"),
        ("HTTP://b.example/x//y", "b.example", "/x//y"),
    ],
)
def test_an_absolute_target(target: str, host: str, sent: str) -> None:
    request = made(f"GET {target} HTTP/1.1\nHost: a.example\n\n")
    assert lines(request)[:2] == [f"GET {sent} HTTP/1.1", f"Host: {host}"]


def test_an_old_request_becomes_a_new_one() -> None:
    request = made("GET / HTTP/1.0\nConnection: upgrade\nUpgrade: websocket\n\n")
    assert lines(request)[:2] == ["GET / HTTP/1.1", "Host: 127.0.0.1:8000"]
    assert request.upgrade == b""


def test_a_whole_body_has_a_length() -> None:
    request = made("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nExpect: 100-continue\n\n", length=5)
    assert fields(request, "transfer-encoding", "content-length", "expect") == ["Content-Length: 5"]
    assert (request.length, request.idempotent, request.expects) == (5, False, False)
    assert fields(made("POST / HTTP/1.1\nHost: x\nContent-Length: 0\n\n"), "content-length") == ["Content-Length: 0"]
    assert fields(made("POST / HTTP/1.1\nHost: x\n\n"), "content-length") == []


def test_a_body_on_its_way_is_framed_as_it_comes() -> None:
    chunked = made("PUT / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nExpect: 100-continue\n\n", streamed=True)
    assert fields(chunked, "transfer-encoding", "content-length", "expect") == [
        "Transfer-Encoding: chunked", "Expect: 100-continue",
    ]  # fmt: skip
    assert (chunked.length, chunked.expects) == (None, True)
    sized = made("PUT / HTTP/1.1\nHost: x\nContent-Length: 7\n\n", streamed=True)
    assert (sized.length, fields(sized, "content-length")) == (7, ["Content-Length: 7"])


def test_an_upgrade_is_asked_for() -> None:
    asked = (
        "GET / HTTP/1.1\nHost: x\nConnection: keep-alive, Upgrade\nUpgrade: h2c, websocket\nSec-WebSocket-Key: k\n\n"
    )
    request = made(asked)
    assert request.upgrade == b"websocket", "and not for HTTP/2, whose requests nobody would see"
    assert fields(request, "connection", "upgrade", "sec-websocket-key") == [
        "Sec-WebSocket-Key: k", "Connection: Upgrade", "Upgrade: websocket",
    ]  # fmt: skip
    assert made(asked, switch=False).upgrade == b""
