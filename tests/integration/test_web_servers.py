"""Behind the real nginx and the real Apache httpd, with exactly what `appsrv config` prints: the shared requests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import Launch
from support.http import Connection, Reply, exchange_bytes, send
from support.load import PAUSE, Load
from support.server import APPS, COMMAND, Server, Site, free_port
from support.web_servers import WebServer, apache, has_module, nginx, start_apache, start_nginx

STARTS: dict[str, Callable[[Path, Path, int], WebServer]] = {"nginx": start_nginx, "apache": start_apache}
INSTALLED = {"nginx": nginx, "apache": apache}
DOWNLOAD = 512 * 65536
LIES = {
    "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example",
    "X-Real-IP": "6.6.6.6", "X-Forwarded-Port": "444", "X-Forwarded-Prefix": "/evil", "X-Scheme": "https",
    "Forwarded": "for=6.6.6.6;proto=https", "X-Forwarded-Ssl": "on", "Front-End-Https": "on",
    "X-Request-ID": "chosen", "X-Forwarded-Scheme": "https",
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How the application is reached: by which web server, below which path, over what."""

    program: str
    base: str
    listening: str

    def __str__(self) -> str:
        return f"{self.program}-{self.base.strip('/') or 'root'}-{self.listening}"


WAYS = [
    Way("nginx", "", "socket"), Way("nginx", "/shop", "port"),
    Way("apache", "", "port"), Way("apache", "/shop", "socket"),
]  # fmt: skip


@dataclass
class Front:
    """The web server and what is behind it."""

    way: Way
    web: WebServer
    server: Server

    @property
    def host(self) -> str:
        return f"shop.example:{self.web.address[1]}"

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Below the path that the application has there."""
        named = {"Host": self.host, **(headers or {})}
        return send(self.web.address, method, self.way.base + path, body, named)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, headers)


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that the group may read, of which Apache is; its names are short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="appsrv-web-") as name:
        Path(name).chmod(0o750)
        yield Path(name)


@pytest.fixture
def site(directory: Path) -> Iterator[Site]:
    made = Site(directory / "shop")
    yield made
    made.remove()


def configure(site: Site, listening: str) -> None:
    """A project whose settings stand in its own file."""
    (site.directory / "proxied.py").write_bytes((APPS / "proxied.py").read_bytes())
    site.write("static/style.0123456789ab.css", "body {}")
    site.write("static/logo.svg", "<svg/>")
    site.write("static/.secret", "no")
    site.write("media/film.mp4", "0123456789")
    site.write("appsrv.toml", "\n".join([
        'app = "proxied:application"', listening, 'static = ["/static/=static"]', 'max_body_size = "4M"',
        "min_instances = 2", "max_pool_size = 2", 'log_file = "appsrv.log"',
    ]))  # fmt: skip


def printed(site: Site, *words: str) -> Path:
    done = site.command("config", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return site.write(f"{words[0]}.conf", done.stdout)


@pytest.fixture
def front(request: pytest.FixtureRequest, site: Site, directory: Path, launch: Launch) -> Iterator[Front]:
    way: Way = request.param
    if INSTALLED[way.program]() is None:
        pytest.skip(f"no {way.program} here")
    port = free_port()
    address = str(directory / "web.sock") if way.listening == "socket" else ("127.0.0.1", port)
    configure(site, f'socket = "{address}"' if way.listening == "socket" else f"port = {port}")
    # Its web server belongs to the group that may write to the socket, as in the unit for systemd.
    server = launch(["sh", "-c", f"umask 0007; exec {COMMAND} start"], address)
    with started(site, way, server) as found:
        server.wait_ready()
        yield found


class started:
    """The web server with what `appsrv config` prints for the project, stopped at the end."""

    def __init__(self, site: Site, way: Way, server: Server, *words: str) -> None:
        self.place = site.directory.parent / way.program
        self.place.mkdir(exist_ok=True)
        port = free_port()
        sub_path = ["--base-uri", way.base] if way.base else []
        files = ["--accel-redirect", "/protected/=media"] if way.program == "nginx" else ["--sendfile-root", "media"]
        written = printed(
            site, way.program, "--listen", f"127.0.0.1:{port}", "--server-name", "shop.example", *sub_path,
            "--web-log-dir", str(self.place), *files, *words,
        )  # fmt: skip
        self.front = Front(way, STARTS[way.program](self.place, written, port), server)

    def __enter__(self) -> Front:
        return self.front

    def __exit__(self, *_: object) -> None:
        self.front.web.stop()
        print(self.front.web.evidence())


@pytest.mark.parametrize("front", WAYS, indirect=True, ids=str)
def test_the_shared_requests(front: Front) -> None:
    """One after the other: each way takes two servers to start."""
    for step in (ask_what_it_is_told, ask_with_bodies, ask_for_files, ask_for_what_is_broken_off, restart_under_load):
        step(front)


def ask_what_it_is_told(front: Front) -> None:
    base, port = front.way.base, str(front.web.address[1])
    answer = front.get("/caf%C3%A9/a%2Fb;c?q=%2F")
    seen = answer.json["environ"]
    told = {
        "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "HTTP_HOST": front.host, "SERVER_NAME": "shop.example",
        "SERVER_PORT": port, "SCRIPT_NAME": base, "PATH_INFO": "/cafÃ©/a/b;c", "QUERY_STRING": "q=%2F",
        "REQUEST_URI": f"{base}/caf%C3%A9/a%2Fb;c?q=%2F",
    }  # fmt: skip
    assert {name: seen.get(name) for name in told} == told
    # Nothing that a client says about itself comes through, not even the id.
    lied = front.get("/caf%C3%A9/a%2Fb;c?q=%2F", **LIES).json["environ"]
    assert {name: lied.get(name) for name in told} == told
    assert lied["HTTP_X_REQUEST_ID"] != "chosen"
    assert (front.get("/redirect").status, front.get("/redirect").headers["Location"]) == (
        302, f"http://{front.host}{base}/there"
    )
    if base:
        bare = send(front.web.address, "GET", f"{base}?a=b", None, {"Host": front.host})
        assert (bare.status, bare.headers["Location"].removeprefix(f"http://{front.host}")) == (308, f"{base}/?a=b")
        assert send(front.web.address, "GET", f"{base}ping", None, {"Host": front.host}).status == 404
    # Asked for WebSocket, a WSGI application answers as ever.
    upgrade = front.get("/", Upgrade="websocket", Connection="Upgrade", **{"Sec-WebSocket-Version": "13"})
    assert (upgrade.status, upgrade.json["environ"]["REMOTE_ADDR"]) == (200, "127.0.0.1")


def ask_with_bodies(front: Front) -> None:
    body = os.urandom(3 << 20)
    whole = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    for sent in (body, (body[start : start + 100_000] for start in range(0, len(body), 100_000))):
        answer = front.ask("POST", "/", sent).json
        assert {name: answer[name] for name in whole} == whole
    for sent in (bytes(5 << 20), (bytes(1 << 20) for _ in range(5))):
        assert refused(front, sent) == 413
    assert front.ask("POST", "/", b"").json["size"] == 0
    connection = Connection(front.web.address)
    pids = [connection.exchange("POST", f"{front.way.base}/", b"x" * size).json["size"] for size in (1, 10, 100_000)]
    assert pids == [1, 10, 100_000]
    connection.close()
    download = front.get("/download").body
    assert (len(download), download[:65536]) == (DOWNLOAD, bytes(range(256)) * 256)


def refused(front: Front, body: Any) -> int:
    """The status of an answer that may come before the client has sent all."""
    connection = Connection(front.web.address)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", f"{front.way.base}/", body, {"Host": front.host})
    response = connection.getresponse()
    connection.close()
    return response.status


def ask_for_files(front: Front) -> None:
    hashed, plain = front.get("/static/style.0123456789ab.css"), front.get("/static/logo.svg")
    assert (hashed.text, hashed.headers["Cache-Control"]) == ("body {}", "max-age=315360000, public, immutable")
    assert (plain.text, plain.headers["Cache-Control"]) == ("<svg/>", "max-age=60, public")
    assert plain.headers["Server"].lower().startswith(front.way.program)
    assert front.get("/static/.secret").status in (403, 404)
    assert front.get("/static/").status in (403, 404)
    assert "max_body_size" not in front.get("/static/../appsrv.toml").text
    # Files that the application names.
    path = "/film" if front.way.program == "nginx" else f"/named?path={front.server.site.directory}/media/film.mp4"
    film = front.get(path)
    if front.way.program == "apache" and not has_module("xsendfile"):
        # Then appsrv would send it: without sendfile_root, it says whose turn it is.
        assert film.headers["X-Sendfile"].endswith("/media/film.mp4")
        return
    assert (film.status, film.text, film.headers["Content-Type"]) == (200, "0123456789", "video/mp4")
    assert (front.get(path, Range="bytes=-3").status, front.get(path, Range="bytes=-3").text) == (206, "789")
    assert {"X-Accel-Redirect", "X-Sendfile"}.isdisjoint(film.headers)
    # Nobody gets there without the application.
    assert send(front.web.address, "GET", "/protected/film.mp4", None, {"Host": front.host}).text != "0123456789"


def ask_for_what_is_broken_off(front: Front) -> None:
    head = f"GET {front.way.base}/broken HTTP/1.1\r\nHost: {front.host}\r\nConnection: close\r\n\r\n"
    answer = exchange_bytes(front.web.address, head.encode())
    # Chunked, and without the last chunk; or an error, where nothing had left yet.
    assert not answer.data.endswith(b"0\r\n\r\n") or answer.data.startswith(b"HTTP/1.1 502 ")


def restart_under_load(front: Front) -> None:
    before, failures = front.server.worker_pids(), list[str]()
    with posting(front, failures), Load(front.web.address, 4, f"{front.way.base}/") as load:
        for _ in range(2):
            done = front.server.site.command("restart-app", ".", seconds=60)
            assert done.returncode == 0, done.stderr
    assert (load.failures, failures) == ([], [])
    assert load.served > 0
    assert before.isdisjoint(front.server.wait_workers(2))


@contextlib.contextmanager
def posting(front: Front, failures: list[str]) -> Iterator[None]:
    """POST on POST: what a web server, unlike a GET, does not send again by itself."""
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set() and len(failures) < 50:
            try:
                answer = front.ask("POST", "/", b"x" * 1000)
                assert (answer.status, answer.json["size"]) == (200, 1000), answer.status
            except Exception as error:  # whatever a client can run into is a lost request
                failures.append(repr(error))
            time.sleep(PAUSE)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(30.0)


@pytest.mark.parametrize("program", ["nginx", "apache"])
def test_https(program: str, site: Site, directory: Path, launch: Launch) -> None:
    if INSTALLED[program]() is None:
        pytest.skip(f"no {program} here")
    port, tls_port = free_port(), free_port()
    configure(site, f"port = {port}")
    certificate, key = self_signed(directory)
    server = launch([COMMAND, "start"], ("127.0.0.1", port)).wait_ready()
    words = ["--tls-listen", f"127.0.0.1:{tls_port}", "--certificate", certificate, "--certificate-key", key]
    with started(site, Way(program, "", "port"), server, *words) as front:
        plain = front.get("/a?b=c")
        assert (plain.status, plain.headers["Location"]) == (301, f"https://shop.example:{tls_port}/a?b=c")
        host = f"shop.example:{tls_port}"
        connection = Connection(("127.0.0.1", tls_port))
        context = ssl.create_default_context(cafile=certificate)
        connection.sock = context.wrap_socket(connection.sock, server_hostname="shop.example")
        seen = connection.exchange("GET", "/", None, {"Host": host}).json["environ"]
        assert (seen["wsgi.url_scheme"], seen["HTTPS"], seen["SERVER_PORT"]) == ("https", "on", str(tls_port))
        redirect = connection.exchange("GET", "/redirect", None, {"Host": host})
        assert redirect.headers["Location"] == f"https://{host}/there"
        connection.close()


def self_signed(directory: Path) -> tuple[str, str]:
    """A certificate of shop.example and its key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (directory / "key.pem").write_bytes(key.private_bytes(pem, *plain))
    return str(directory / "cert.pem"), str(directory / "key.pem")
