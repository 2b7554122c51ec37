"""Socket activation: listening sockets that somebody else has opened, as systemd does (sd_listen_fds(3))."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from integration.conftest import Launch
from support.certificates import make, trusting
from support.http import Address, send
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

LAUNCHER = """
import os, socket, sys

where, command = sys.argv[1].split(","), sys.argv[2:]
sockets = []
for place in where:
    if "/" in place or place.startswith("@"):
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[-1].bind(place.replace("@", "\\0"))
    else:
        host, _, port = place.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sockets.append(socket.create_server((host, int(port)), family=family))
    sockets[-1].listen()
above = [os.dup(sock.fileno()) for sock in sockets]
for number, fd in enumerate([os.dup2(fd, 40 + n) for n, fd in enumerate(above)], 3):
    os.dup2(fd, number)
os.closerange(3 + len(where), 64)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(where)))
os.execv(command[0], command)
"""


def activate(launch: Launch, site: Site, where: list[str], address: Address, *options: str) -> Server:
    site.add_app("hello")
    launcher = site.write("launcher.py", LAUNCHER)
    command = [sys.executable, str(launcher), ",".join(where), COMMAND, "start", "hello:application", *options]
    return launch(command, address)


def test_passed_sockets_are_listened_on_and_outlive_a_server(launch: Launch, site: Site) -> None:
    port, path = free_port(), site.run / "web.sock"
    places: list[Address] = [("127.0.0.1", port), ("::1", port), str(path), "\0" + str(path)]
    where = [f"127.0.0.1:{port}", f"::1:{port}", str(path), f"@{path}"]
    server = activate(launch, site, where, places[0], "--port", "1", "--pid-file", "here.pid").wait_ready()
    assert server.status()["instance"]["bind"] == [
        f"http://127.0.0.1:{port}/", f"http://[::1]:{port}/", f"unix:{path}", f"unix:@{path}"
    ]
    assert "4 sockets that were passed (LISTEN_FDS)" in server.log()
    before = {pid for pid, title in server.titles().items() if title.startswith(("appsrv server", "appsrv worker"))}
    os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
    for place in places:
        assert send(place, "GET", "/").status == 200
    wait_for(lambda: before.isdisjoint(server.titles()), "the end of the one before and of its workers")
    for pid, title in server.titles().items():
        listening = [c for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert bool(listening) == title.startswith(("appsrv watchdog", "appsrv server")), title
    assert site.command("stop", "--pid-file", "here.pid").returncode == 0
    server.wait_exit()
    assert path.is_socket(), "it is the service manager's"


def test_a_daemon_takes_passed_sockets_along(launch: Launch, site: Site) -> None:
    port = free_port()
    server = activate(launch, site, [f"127.0.0.1:{port}"], ("127.0.0.1", port), "--daemonize")
    assert server.wait_exit() == 0, server.terminal
    try:
        assert server.get("/").status == 200
        assert f"http://127.0.0.1:{port}/" in server.terminal
    finally:
        assert site.command("stop", "--port", str(port)).returncode == 0


@pytest.mark.parametrize("own_port", [True, False])
def test_https_on_passed_sockets(launch: Launch, site: Site, tmp_path: Path, own_port: bool) -> None:
    certificate, key = make(tmp_path / "live")
    plain, secure = free_port(), free_port()
    where = [f"127.0.0.1:{port}" for port in ([plain, secure] if own_port else [secure])]
    options = ["--ssl-certificate", certificate, "--ssl-certificate-key", key]
    if own_port:
        options += ["--ssl-port", str(secure)]
    server = activate(launch, site, where, ("127.0.0.1", plain), *options).wait_ready()
    plainly = socket.create_connection(("127.0.0.1", secure), 20)
    with trusting(certificate).wrap_socket(plainly, server_hostname="localhost") as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    if own_port:
        assert server.get("/").status == 200


def test_what_is_no_listening_socket_is_refused(site: Site) -> None:
    site.add_app("hello")
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec {COMMAND} start hello:application 3< /dev/null'
    done = site.run_command(["sh", "-c", script])
    assert done.returncode == 1
    assert "cannot listen on descriptor 3 (LISTEN_FDS)" in done.stderr
    assert not list(site.directory.glob("*.pid"))
