"""Behind proxies, through the real server: whose address, scheme and host the application is told."""

from __future__ import annotations

from typing import Any

import pytest

from integration.conftest import Serve
from support.http import exchange_bytes
from support.server import Server, Site

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
