"""Limits of the wire through a real server: clients that are too slow, disks that are full, too many connections."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from benchmarks.slow_load import Dribbler, Reader, crowd, ordinary
from integration.conftest import Launch, Serve
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

BOTH_QUEUES = pytest.mark.both_queues
LARGE = 4 << 20
BENCHMARK_APPS = Path(__file__).resolve().parents[1] / "benchmarks" / "apps"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a file system can be mounted by root only")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def answer(client: socket.socket) -> bytes:
    """Everything until the end of the connection; a reset ends it, too."""
    client.settimeout(20)
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 20):
            got += data
    return got


def asking(server: Server, head: str) -> socket.socket:
    client = server.raw()
    client.sendall(f"{head}\r\nHost: x\r\n\r\n".encode())
    return client


def test_a_full_disk_harms_only_what_does_not_fit(serve: Serve, small_disk: Path) -> None:
    server = serve("hard", "--data-buffer-dir", str(small_disk))
    upload = asking(server, f"POST / HTTP/1.1\r\nContent-Length: {LARGE}")
    sender = threading.Thread(target=_send_until_refused, args=(upload,))
    sender.start()
    assert answer(upload).startswith(b"HTTP/1.1 507 ")
    upload.close()
    sender.join(20)
    server.wait_log("no room to keep the request body: No space left on device")

    download = asking(server, "GET /big HTTP/1.1")
    server.wait_log(f"no room in {small_disk} for the part of a response that the client .*: No space left on device")
    got = answer(download)
    download.close()
    assert got.startswith(b"HTTP/1.1 200 ")
    assert len(got) < 20 << 20
    assert "Traceback" not in server.log()

    # What fits into memory needs no disk; what was given up has given its room back.
    (small_disk / "ballast").write_bytes(bytes((1 << 20) - 8192))
    small = asking(server, f"POST / HTTP/1.1\r\nContent-Length: {100_000}\r\nConnection: close")
    time.sleep(0.05)  # Arrives in two pieces: by way of the slow lane.
    small.sendall(bytes(100_000))
    assert answer(small).startswith(b"HTTP/1.1 200 ")
    small.close()
    assert server.get("/").status == 200


def _send_until_refused(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.sendall(bytes(LARGE))


@BOTH_QUEUES
def test_whoever_dribbles_is_shown_the_door(serve: Serve) -> None:
    server = serve("hard", "--body-timeout", "0.5", "--min-data-rate", "100000", "--response-buffer-size", "1M")
    upload = asking(server, "POST / HTTP/1.1\r\nContent-Length: 1000")
    started = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < started + 10 and not _has_ended(upload):
            upload.send(b"x")
            time.sleep(0.02)
    assert time.monotonic() < started + 10
    assert answer(upload).startswith(b"HTTP/1.1 408 ")
    upload.close()

    # One that sips, of a response that is more than its buffer: the worker waits for it, though not for long.
    download = asking(server, "GET /big HTTP/1.1")
    wait_for(lambda: download.recv(1) and _is_reset(download), "the reset", 10.0)
    download.close()
    assert server.get("/").status == 200


def _is_reset(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client.fileno(), 0)
    return bool(poll.poll(0))


def _has_ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    else:
        return True
    finally:
        client.setblocking(True)


def test_limits_of_a_request_are_settings(serve: Serve) -> None:
    options = {
        "--max-request-line-size": "100", "--max-header-field-size": "120", "--max-header-fields": "5",
        "--max-header-size": "400", "--max-body-size": "10", "--max-trailer-size": "16",
    }
    server = serve("hard", *(word for pair in options.items() for word in pair))
    chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\nTrail: "
    assert status(server, "GET /" + "x" * 90, "") == 414
    assert status(server, "GET /", "X: " + "y" * 120) == 431
    assert status(server, "GET /", "\r\n".join(["X: y"] * 5)) == 431
    assert status(server, "GET /", "\r\n".join(["X: " + "y" * 115] * 3)) == 431
    assert status(server, "POST /", "Content-Length: 11") == 413
    assert status(server, "POST /", chunked + "x" * 20) == 431
    assert status(server, "POST /", chunked + "x" * 2) == 200
    assert status(server, "GET /" + "x" * 70, "X: " + "y" * 100 + "\r\nX: y\r\nX: y") == 200


def status(server: Server, request_line: str, fields: str) -> int:
    """What a request is answered with."""
    with server.raw() as client:
        client.sendall(f"{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n\r\n".encode())
        return int(answer(client)[9:12])


@BOTH_QUEUES
def test_few_descriptors_are_enough_for_many_clients(launch: Launch, site: Site, ready_queue: str) -> None:
    """More idle clients than the server may have descriptors: the new ones are served, the oldest make room."""
    site.add_app("hard")
    port = free_port()
    command = f"ulimit -n 128; exec {COMMAND} start hard:application --port {port} --ready-queue {ready_queue}"
    server = launch(["sh", "-c", command], ("127.0.0.1", port)).wait_ready()
    connections = [server.keep_alive() for _ in range(150)]
    for connection in connections:
        connection.request("GET", "/")
        assert connection.getresponse().read().isdigit()
    figures = server.status()["server"]
    assert figures["connections"] <= figures["max_connections"] == 64
    assert figures["closed_idle"] >= 150 - 64
    shown = site.command("status", "--show", "server").stdout
    assert f"of 64 at most ({figures['closed_idle']} idle ones closed to make room)" in shown
    server.wait_log("closed to make room")
    assert server.log().count("closed to make room") == 1
    for connection in connections:
        connection.close()


@BOTH_QUEUES
def test_slow_and_idle_clients_are_served_and_nobody_else_notices(serve: Serve, site: Site) -> None:
    """The benchmark `slow_clients` in small: what is answered, not how fast."""
    shutil.copy(BENCHMARK_APPS / "slow_clients.py", site.directory)
    server = serve("slow_clients:application", "--max-pool-size", "2", "--min-instances", "2", "--header-timeout", "3")
    port = int(server.address[1])
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(server.keep_alive())) for _ in range(50)]
        for connection in idle:
            assert connection.exchange("GET", "/").text == "0"
        dribblers = stack.enter_context(crowd(Dribbler, port, 30, 0.05))
        readers = stack.enter_context(crowd(Reader, port, 6))
        wait_for(lambda: readers.arrived() and dribblers.arrived(), "all slow clients")
        found = ordinary(port, 2.5)
        assert (found.failed, len(found.latencies)) == (0, 125)
        for connection in idle:
            assert connection.exchange("GET", "/").text == "0"
        wait_for(lambda: (answers := dribblers.so_far())["408"] >= 10 and answers["200"] >= 20, "answers to dribblers")
    assert (readers.unexpected, readers.happened["whole"]) == (0, 6), readers.happened
    assert dribblers.unexpected == 0, dribblers.happened


# -- each refusal by a limit names its setting -----------------------------------------------------------------------

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
BEYOND = [
    ("max_request_line_size", "8190", 414, b"GET /?" + b"q" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("max_header_field_size", "16384", 431, b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=" + b"c" * 17000 + b"\r\n\r\n"),
    ("max_header_fields", "100", 431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n"),
    ("max_header_size", "65536", 431, b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"y" * 15000 + b"\r\n") * 5),
    ("max_body_size", "1024", 413, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n"),
    ("max_trailer_size", "100", 431, CHUNKED + b"0\r\nX: " + b"y" * 200 + b"\r\n\r\n"),
    ("header_timeout", "0.5 s", 408, b"GET / HTTP/1.1\r\nHost:"),
    ("body_timeout", "0.5 s, with min_data_rate 240", 408, CHUNKED + b"5\r\nhel"),
]


@BOTH_QUEUES
def test_the_log_names_the_setting_of_each_refusal(serve: Serve) -> None:
    server = serve(
        "hard", "--max-body-size", "1K", "--max-trailer-size", "100", "--header-timeout", "0.5", "--body-timeout", "0.5"
    )
    for _, _, status, request in (*BEYOND, BEYOND[0], ("", "", 413, CHUNKED + b"401\r\n")):
        with closing(server.raw()) as client:
            client.sendall(request)
            got = answer(client)
        assert got.startswith(b"HTTP/1.1 %d " % status), request[:80]
        assert b"max_" not in got
        assert b"_timeout" not in got
    for setting, value, status, _ in BEYOND:
        found = server.wait_log(rf"answered {status} \([^)]*\), of 127.0.0.1: the setting {setting} is .*")
        assert f" is {value}; 1 so far, logged once a minute" in found[0]
    for setting in ("max_request_line_size", "max_body_size"):
        assert server.log().count(f"the setting {setting} is") == 1


def test_the_log_names_the_setting_of_a_client_that_takes_too_little(serve: Serve) -> None:
    server = serve("hard", "--body-timeout", "0.5", "--response-buffer-size", "1M")
    with closing(asking(server, "GET /big HTTP/1.1")):
        server.wait_log(
            r"a connection was closed \(the client reads the response too slowly\), of 127.0.0.1: "
            r"the setting body_timeout is 0.5 s, with min_data_rate 240; 1 so far"
        )


def test_the_page_names_the_setting_in_development(serve: Serve) -> None:
    server = serve("hard", "--environment", "development")
    for setting, value, status, request in BEYOND[:2]:
        with closing(server.raw()) as client:
            client.sendall(request)
            got = answer(client).decode()
        assert got.startswith(f"HTTP/1.1 {status} ")
        assert f"the setting {setting} of appsrv is {value}." in got
    # The page about an error in the application shows it, too.
    assert "raised" in server.get("/raise").text
