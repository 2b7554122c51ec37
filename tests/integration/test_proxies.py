"""Behind proxies, through the real server: whose address, scheme and host the application is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integration.conftest import Serve
from support.http import exchange_bytes
from support.server import Server, Site
from support.waiting import wait_for

SAID = {"X-Forwarded-For": "6.6.6.6, 192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example"}
SEEN = {"REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "https", "HTTP_HOST": "shop.example", "SERVER_PORT": "443"}


def environ(server: Server, headers: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/", headers).json["environ"]
    return found


def part_of(found: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {name: found.get(name) for name in names}


@pytest.mark.both_queues
def test_a_proxy_on_this_machine_is_believed(serve: Serve) -> None:
    server = serve("echo")
    for _ in range(2):
        # The second time, the head is one that was remembered.
        assert part_of(environ(server, SAID), SEEN) == SEEN
    assert environ(server, {})["REMOTE_ADDR"] == "127.0.0.1"
    answer = exchange_bytes(
        server.address, b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\n\r\n"
    )
    assert answer.data.startswith(b"HTTP/1.1 400 ")


def test_a_proxy_behind_a_unix_socket_is_believed(serve: Serve, site: Site) -> None:
    server = serve("echo", "--socket", str(site.run / "s"))
    assert part_of(environ(server, SAID), SEEN) == SEEN
    plain = environ(server, {"Host": "shop.example:81"})
    told = {"REMOTE_ADDR": "", "REMOTE_PORT": "", "SERVER_NAME": "shop.example", "SERVER_PORT": "81"}
    assert part_of(plain, told) == told


def test_nobody_is_believed_where_nobody_is_to_be(serve: Serve) -> None:
    found = environ(serve("echo", environment={"FORWARDED_ALLOW_IPS": "192.0.2.7"}), SAID)
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("127.0.0.1", "http")
    assert [name for name in found if "FORWARDED" in name] == []


def test_fields_of_an_untrusted_proxy_are_named_in_the_log(serve: Serve) -> None:
    server = serve("echo", "--max-pool-size", "2", "--min-instances", "2", "--forwarded-allow-ips", "192.0.2.7")
    for _ in range(20):
        environ(server, {"X-Forwarded-Proto": "https", "X-Request-ID": "mine"})
        environ(server, {"X-Request-ID": "mine"})
    server.get("/", {"X_Token": "secret", "X-Forwarded-Host": "shop.example"})
    server.wait_log(r" WARNING .* X_Token from 127.0.0.1 is removed: .* Have X-Token sent, or .*--underscores-in-")
    lines = [line for line in server.log().splitlines() if "WARNING" in line and "X-Forwarded" in line]
    assert len(lines) == 1, "one line for an address, whichever workers have seen it"
    assert "appsrv removes X-Forwarded-Proto from 127.0.0.1, which" in lines[0]
    assert "--forwarded-allow-ips 192.0.2.7,127.0.0.1" in lines[0]
    assert "secret" not in server.log()
    trusting = serve("echo", "--forwarded-allow-ips", "192.0.2.7,127.0.0.1")
    assert environ(trusting, {"X-Forwarded-Proto": "https"})["wsgi.url_scheme"] == "https"
    assert "appsrv removes" not in trusting.log()


def test_underscores_from_trusted_proxies(serve: Serve) -> None:
    server = serve("echo", "--underscores-in-headers", "trusted")
    found = environ(server, {"X_Token": "one", "OIDC_CLAIM_sub": "anna", "X_Forwarded_For": "6.6.6.6"})
    assert (found["HTTP_X_TOKEN"], found["HTTP_OIDC_CLAIM_SUB"], found["REMOTE_ADDR"]) == ("one", "anna", "127.0.0.1")
    for fields in (b"X_User: forged\r\nX-User: true", b"X-User: true\r\nX_User: forged"):
        asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n\r\n" % fields
        answer = exchange_bytes(server.address, asked)
        assert json.loads(answer.data.partition(b"\r\n\r\n")[2])["environ"]["HTTP_X_USER"] == "true"
    server.wait_log(r" WARNING .* X_User from 127.0.0.1 is removed: .* the same as X-User")
    stranger = serve("echo", "--underscores-in-headers", "trusted", "--forwarded-allow-ips", "unix")
    assert "HTTP_X_TOKEN" not in environ(stranger, {"X_Token": "one"})
    stranger.wait_log(r" WARNING .* X_Token from 127.0.0.1 is removed: .*--forwarded-allow-ips unix,127.0.0.1")


# -- PROXY protocol --------------------------------------------------------------------------------------------------

ASK = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"
LINE = b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n"


@pytest.mark.both_queues
def test_the_client_of_the_proxy_protocol(serve: Serve) -> None:
    server = serve("echo", "--proxy-protocol")
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\1\xcb\0\x71\x09\xdc\x04\1\xbb"
    for sent in (LINE + ASK, binary + ASK):
        found = json.loads(exchange_bytes(server.address, sent).data.partition(b"\r\n\r\n")[2])["environ"]
        assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("192.0.2.1", "56324")
        # The client speaks itself here: it is no trusted proxy.
        assert "HTTP_X_FORWARDED_FOR" not in found
    # A client that the proxy cannot name is not the proxy; what the proxy says for itself is.
    unknown = json.loads(exchange_bytes(server.address, b"PROXY UNKNOWN\r\n" + ASK).data.partition(b"\r\n\r\n")[2])
    assert unknown["environ"]["REMOTE_ADDR"] == ""
    local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
    assert b'"REMOTE_ADDR": "6.6.6.6"' in exchange_bytes(server.address, local + ASK).data
    with server.raw() as slow:
        # The request comes when the connection is parked already.
        slow.sendall(LINE)
        wait_for(lambda: server.status()["server"]["connections"] == 1, "the connection to be accepted")
        slow.sendall(ASK)
        assert b'"REMOTE_ADDR": "192.0.2.1"' in slow.makefile("rb").read()
    # One whose header does not come holds up no stop.
    with server.raw() as silent:
        silent.sendall(b"PROXY")
        wait_for(lambda: server.status()["server"]["connections"] >= 1, "the connection to be accepted")
        assert server.stop() == 0


def test_a_connection_without_the_proxy_protocol_is_ended(serve: Serve) -> None:
    server = serve("echo", "--proxy-protocol", "--header-timeout", "1")
    for sent in (ASK, LINE[:-1], b"PROXY TCP4 x\r\n"):
        assert exchange_bytes(server.address, sent).data == b""
    server.wait_log("does not start with a PROXY protocol header")
