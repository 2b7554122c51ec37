"""HTTPS through the real server: what the application is told, what the client gets, and what must not look whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import Serve, app_command
from support.certificates import make, trusting
from support.http import exchange_bytes
from support.reports import reported
from support.server import Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

MIB = 2**20
APP = '''
import hashlib, os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/upload":
        body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
    elif path == "/cut":
        start_response("200 OK", [])
        return cut()
    elif path == "/killed":
        start_response("200 OK", [])
        return killed()
    elif path.startswith("/large"):
        body = b"x" * (20 << 20)
    else:
        body = (environ["wsgi.url_scheme"] + " " + environ["HTTPS"] + " " + environ["SERVER_PORT"]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def cut():
    yield b"half"
    raise RuntimeError("on purpose")

def killed():
    yield b"half"
    os.kill(os.getpid(), 9)
'''


class Https:
    """A server on a TLS port, and how to talk to it."""

    def __init__(self, server: Server, port: int, certificate: str, key: str) -> None:
        self.server, self.port, self.certificate, self.key = server, port, certificate, key

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), 20)
        return trusting(self.certificate).wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)

    def get(self, target: str, sock: ssl.SSLSocket | None = None) -> bytes:
        client = http.client.HTTPConnection("localhost", self.port)
        client.sock = sock or self.connect()
        client.request("GET", target)
        body = client.getresponse().read()
        if sock is None:
            client.close()
        return body


@pytest.fixture
def options() -> Sequence[str]:
    """More of `appsrv start`."""
    return ()


@pytest.fixture
def https(serve: Serve, site: Site, tmp_path: Path, options: Sequence[str]) -> Https:
    certificate, key = make(tmp_path / "live")
    site.write("shop.py", APP)
    port = free_port()
    tls = ["--ssl-port", str(port), "--ssl-certificate", certificate, "--ssl-certificate-key", key]
    return Https(serve("shop:application", *tls, *options), port, certificate, key)


@pytest.fixture
def shared_https(shared_servers: SharedServers, request: pytest.FixtureRequest, ready_queue: str) -> Https:
    """For tests that only ask, or kill a worker."""

    def begin(site: Site) -> Server:
        make(site.directory / "live")
        site.write("shop.py", APP)
        tls = ["--ssl-port", str(free_port()), "--ssl-certificate", "live/cert.pem",
               "--ssl-certificate-key", "live/key.pem"]
        return Server(site, *app_command(site, "shop:application", ready_queue, tls))

    server = reported(request, shared_servers.get(ready_queue, begin))
    port = int(server.argv[server.argv.index("--ssl-port") + 1])
    certificate, key = (str(server.site.directory / "live" / name) for name in ("cert.pem", "key.pem"))
    return Https(server, port, certificate, key)


@pytest.mark.both_queues
def test_requests_and_large_bodies_in_both_directions(shared_https: Https) -> None:
    with shared_https.connect() as client:
        assert client.version() == "TLSv1.3"
        for _ in range(3):
            assert shared_https.get("/", client) == f"https on {shared_https.port}".encode()
    assert shared_https.get("/large") == b"x" * (20 * MIB)
    body = bytes(range(256)) * (12 * 1024)
    upload = http.client.HTTPConnection("localhost", shared_https.port)
    upload.sock = shared_https.connect()
    upload.request("POST", "/upload", body)
    assert upload.getresponse().read().decode() == hashlib.sha256(body).hexdigest()
    upload.close()
    wait_for(lambda: shared_https.server.status()["server"]["connections"] == 0, "no connection to be left")


@pytest.mark.both_queues
def test_what_is_not_whole_never_looks_whole(shared_https: Https) -> None:
    for path in ("/cut", "/killed"):
        for version in ("1.1", "1.0"):
            with shared_https.connect() as client:
                client.sendall(f"GET {path} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
                # An orderly end, after close_notify, would be b"" here.
                with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
                    assert all(iter(lambda: client.recv(65536), b"never")), "it looks whole"


@pytest.mark.both_queues
def test_the_end_is_announced_and_a_half_close_is_heard(shared_https: Https) -> None:
    ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with shared_https.connect() as client:
        client.sendall(ask)
        while client.recv(65536):
            pass
        # recv raises where the connection ends without close_notify.
    with shared_https.connect() as client:
        client.sendall(ask)
        socket.socket.shutdown(client, socket.SHUT_WR)
        assert b"200 OK" in client.recv(65536)


@pytest.mark.both_queues
def test_http_and_noise_on_the_port_of_https(shared_https: Https) -> None:
    answer = exchange_bytes(("127.0.0.1", shared_https.port), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").data
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"This port speaks HTTPS" in answer
    assert exchange_bytes(("127.0.0.1", shared_https.port), b"\x05\x01\0").data == b""
    broken = exchange_bytes(("127.0.0.1", shared_https.port), b"\x16\x03\x01\x00\x05hello")
    assert b"HTTP" not in broken.data
    assert shared_https.server.get("/plain").status == 500


def begin_handshakes(https: Https, opened: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """Connections that have sent the first bytes of a ClientHello, and then nothing."""
    silent = []
    for _ in range(count):
        silent.append(opened.enter_context(socket.create_connection(("127.0.0.1", https.port), 20)))
        silent[-1].sendall(b"\x16\x03\x01")
    return silent


@pytest.mark.parametrize("options", [("--header-timeout", "600")])
def test_slow_handshakes_hold_up_nobody(https: Https) -> None:
    with contextlib.ExitStack() as opened:
        begin_handshakes(https, opened, 200)
        wait_for(lambda: https.server.status()["server"]["connections"] == 200, "200 handshakes")
        assert https.get("/") == f"https on {https.port}".encode()
        # Nor a stop.
        assert https.server.stop() == 0


@pytest.mark.parametrize("options", [("--header-timeout", "1")])
def test_slow_handshakes_are_ended_after_a_while(https: Https) -> None:
    with contextlib.ExitStack() as opened:
        for client in begin_handshakes(https, opened, 200):
            assert client.recv(100) == b""
        wait_for(lambda: https.server.status()["server"]["connections"] == 0, "the end of them all")


def test_a_new_certificate_drops_nobody(https: Https, tmp_path: Path) -> None:
    with https.connect() as kept:
        assert https.get("/", kept)
        for new, old in zip(make(tmp_path / "new", "renewed"), (https.certificate, https.key), strict=True):
            shutil.copy(new, old)
        assert https.server.site.command("restart-app", ".").returncode == 0
        # Trusts the new one alone.
        assert https.get("/") == https.get("/", kept) == f"https on {https.port}".encode()
        Path(https.key).write_text("nonsense")
        https.server.child.send_signal(signal.SIGHUP)
        https.server.wait_log("key.pem holds no private key in PEM form .* the previous one stays in use")
        assert https.get("/")


def test_a_stop_lets_a_slow_client_have_its_response(https: Https) -> None:
    with https.connect() as client:
        client.sendall(b"GET /large HTTP/1.0\r\nHost: a\r\n\r\n")
        received = len(client.recv(1000))
        https.server.child.send_signal(signal.SIGTERM)
        while data := client.recv(65536):
            received += len(data)
    assert received > 20 * MIB
    assert https.server.wait_exit() == 0


def test_https_alone_behind_a_proxy_of_tcp(serve: Serve, site: Site, tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "live")
    server = serve(
        "echo", "--ssl-certificate", certificate, "--ssl-certificate-key", key, "--proxy-protocol", wait=False
    ).wait_ready()
    assert not isinstance(server.address, str)
    port = server.address[1]
    with socket.create_connection(server.address, 20) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n")
        with trusting(certificate).wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["environ"]
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("192.0.2.1", "https")
    wait_for(lambda: f"https://127.0.0.1:{port}/" in server.terminal, "the address in the banner")


def test_a_certificate_that_cannot_be_used_is_told_at_the_start(site: Site, tmp_path: Path) -> None:
    site.add_app("hello")
    certificate, _ = make(tmp_path / "a")
    _, other = make(tmp_path / "b")
    done = site.command("start", "hello:application", "-p", "0", "--ssl-certificate", certificate,
                        "--ssl-certificate-key", other)
    assert (done.returncode, "does not belong to the certificate" in done.stderr) == (1, True)


def test_a_slow_but_steady_client_has_its_response_and_one_that_stops_is_cut(
    serve: Serve, site: Site, tmp_path: Path
) -> None:
    certificate, key = make(tmp_path / "live")
    site.write("shop.py", APP)
    port = free_port()
    options = ["--ssl-port", str(port), "--ssl-certificate", certificate, "--ssl-certificate-key", key]
    https = Https(serve("shop:application", *options, "--body-timeout", "3"), port, certificate, key)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", port))
    with trusting(certificate).wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            assert client.recv(1024), "cut though it takes 20 KB a second"
            time.sleep(0.05)
        wait_for(lambda: https.server.status()["server"]["connections"] == 0, "the end of a client that stopped")
