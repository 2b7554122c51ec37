"""Several instances behind nginx, as docs/scaling.md has it: one is drained and renewed, no request is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from integration.conftest import Serve
from support.http import send
from support.load import Load
from support.server import Server, Site, free_port
from support.waiting import wait_for
from support.web_servers import nginx, start_nginx


def upstream(printed: str, ports: dict[int, str]) -> str:
    """The configuration printed for the first of these ports, with a line for each, and what is said of it."""
    one = f"    server 127.0.0.1:{next(iter(ports))} fail_timeout=0;"
    assert one in printed
    lines = (f"    server 127.0.0.1:{port} {said};" for port, said in ports.items())
    return printed.replace(one, "\n".join(lines))


def connections(server: Server) -> int:
    count: int = server.status()["server"]["connections"]
    return count


@pytest.mark.skipif(nginx() is None, reason="no nginx here")
def test_one_of_two_is_drained_and_renewed(serve: Serve, site: Site, tmp_path: Path) -> None:
    servers = [serve("hello", "--min-instances", "1") for _ in range(2)]
    first, second = (server.address[1] for server in servers)
    assert isinstance(first, int)
    assert isinstance(second, int)
    port, place = free_port(), tmp_path / "nginx"
    place.mkdir()
    done = site.command("config", "nginx", "hello:application", "--port", str(first), "--listen", f"127.0.0.1:{port}",
                        "--web-log-dir", str(place))  # fmt: skip
    assert done.returncode == 0, done.stderr
    conf = site.write("site.conf", upstream(done.stdout, {first: "", second: ""}))
    web = start_nginx(place, conf, port)
    try:
        with Load(web.address, 3, keep_alive=False) as load:
            wait_for(lambda: all(connections(server) for server in servers), "requests at both")
            conf.write_text(upstream(done.stdout, {first: "down", second: ""}), encoding="utf-8")
            os.kill(web.child.pid, signal.SIGHUP)
            wait_for(lambda: connections(servers[0]) == 0, "the first to be drained", 20.0)
            assert site.command("stop", "--port", str(first)).returncode == 0
            served = load.served
            wait_for(lambda: load.served > served + 20, "the second to serve alone")
        assert load.failures == []
        assert send(web.address, "GET", "/").status == 200
    finally:
        web.stop()
