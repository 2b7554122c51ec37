"""The access log of a running server: a line for each request, whoever answered it, wherever the file went."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from integration.conftest import Launch, Serve
from support.http import exchange_bytes
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

LINE = re.compile(
    r'(?P<addr>\S+) - (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<line>[^"]*)" (?P<status>\d+) (?P<size>\S+) '
    r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<id>\S+) (?P<pid>\d+) (?P<queue>\S+) (?P<service>\S+)'
)


def entries(server: Server, name: str = "access.log") -> list[dict[str, str]]:
    """All lines so far; each has to be a whole one."""
    text = (server.site.directory / name).read_text(encoding="ascii")
    assert text == "" or text.endswith("\n")
    matches = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(matches), text
    return [match.groupdict() for match in matches if match]


def wait_entries(server: Server, count: int, name: str = "access.log") -> list[dict[str, str]]:
    file = server.site.directory / name
    # While a line is written a part of it may be seen.
    wait_for(lambda: file.read_bytes().count(b"\n") >= count, f"{count} lines in {name}")
    found = entries(server, name)
    assert len(found) == count, found
    return found


@pytest.mark.both_queues
def test_lines_of_workers(serve: Serve) -> None:
    server = serve("echo", "--access-log", "access.log", "--max-pool-size", "1")
    connection = server.keep_alive()
    environ = connection.exchange("GET", "/a?b=c", None, {"User-Agent": 'evil"\t\\'}).json["environ"]
    given = connection.exchange("POST", "/up", b"x" * 100_000, {"X-Request-ID": "trace-1"}).json["environ"]
    connection.close()
    first, second = wait_entries(server, 2)
    assert (first["addr"], first["line"], first["status"]) == ("127.0.0.1", "GET /a?b=c HTTP/1.1", "200")
    assert first["agent"] == "evil\\x22\\x09\\x5C"
    assert int(first["size"]) > 100
    assert (first["id"], second["id"]) == (environ["HTTP_X_REQUEST_ID"], "trace-1")
    assert given["HTTP_X_REQUEST_ID"] == given["appsrv.request_id"] == "trace-1"
    assert {int(first["pid"]), int(second["pid"])} == server.worker_pids()
    assert 0 < float(first["service"]) < 10
    assert 0 <= float(first["queue"]) < 10


@pytest.mark.both_queues
def test_queue_time_is_the_time_a_request_waited(serve: Serve, site: Site) -> None:
    server = serve("holding", "--access-log", "access.log", "--max-pool-size", "1")
    known, begun = server.keep_alive(), time.monotonic()
    known.exchange("GET", "/")
    took = time.monotonic() - begun
    holder = threading.Thread(target=server.get, args=("/hold?name=x",))
    holder.start()
    wait_for((site.directory / "x.begun").exists, "the worker to be busy")
    waiting = [
        threading.Thread(target=known.exchange, args=("GET", "/known")),
        threading.Thread(target=server.get, args=("/new",)),
    ]
    for one in waiting:
        one.start()
    wait_for(lambda: server.group()["queue"] == 2, "two requests to wait")
    since = time.monotonic()
    while time.monotonic() < since + 0.3:
        server.status()
    (site.directory / "x.release").touch()
    for thread in (holder, *waiting):
        thread.join()
    known.close()
    queued = {entry["line"].split()[1]: float(entry["queue"]) for entry in wait_entries(server, 4)}
    # The clock of the arrivals may be read a tick before.
    assert queued["/"] <= took + 0.01
    assert queued["/known"] > 0.3
    assert queued["/new"] > 0.3


def test_requests_that_no_application_answers(serve: Serve) -> None:
    server = serve(
        "crashing", "--access-log", "access.log", "--max-pool-size", "1", "--header-timeout", "0.3",
        "--max-body-size", "10",
    )
    crash = server.get("/kill")
    exchange_bytes(server.address, b"GET /bad\x01 HTTP/1.1\r\nHost: a\r\n\r\n")
    exchange_bytes(server.address, b"\x16\x03\x01\x02\x00")
    exchange_bytes(server.address, b"GET /slow HTTP/1.1\r\nHost: a\r\n")
    exchange_bytes(server.address, b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
    by_line = {entry["line"]: entry for entry in wait_entries(server, 5)}
    assert {line: entry["status"] for line, entry in by_line.items()} == {
        "GET /kill HTTP/1.1": "502",
        "GET /bad\\x01 HTTP/1.1": "400",
        "\\x16\\x03\\x01\\x02\\x00": "400",
        "GET /slow HTTP/1.1": "408",
        "POST /large HTTP/1.1": "413",
    }
    error_id = by_line["GET /kill HTTP/1.1"]["id"]
    assert f"Error id: {error_id}" in crash.text
    server.wait_log(f"error id {error_id}: worker")


def test_a_client_with_too_many_connections(serve: Serve) -> None:
    limit = ("--max-connections-per-address", "1", "--forwarded-allow-ips", "off")
    server = serve("hello", "--access-log", "access.log", *limit)
    with server.raw() as busy:
        busy.sendall(b"GET /busy HTTP/1.1\r\nHost: a\r\n")
        wait_for(lambda: server.status()["server"]["connections"] == 1, "the first connection")
        assert server.get("/one-more").status == 429
    (entry,) = wait_entries(server, 1)
    assert (entry["line"], entry["status"]) == ("GET /one-more HTTP/1.1", "429")


def test_page_traceback_and_line_have_one_id(serve: Serve) -> None:
    server = serve("crashing", "--access-log", "access.log", "--max-pool-size", "1")
    page = server.get("/raise")
    (entry,) = wait_entries(server, 1)
    assert (entry["status"], f"Error id: {entry['id']}" in page.text) == ("500", True)
    server.wait_log(f"Error {entry['id']} in GET /raise$")


def test_all_writers_go_on_in_a_new_file(serve: Serve, site: Site) -> None:
    server = serve("hello", "--access-log", "access.log", "--max-pool-size", "2", "--min-instances", "2")
    files = [site.directory / f"access.log{suffix}" for suffix in ("", ".1", ".2")]
    bad = b"GET /slow\r\n\r\n"

    def ask_everybody() -> None:
        for _ in range(20):
            server.get("/")
        exchange_bytes(server.address, bad)

    ask_everybody()
    wait_entries(server, 21)
    files[0].rename(files[1])
    subprocess.run([COMMAND, "reopen-logs"], cwd=site.directory, env=site.environment, check=True)
    # As logrotate compresses the old file, once its postrotate script has ended.
    files[1].unlink()
    ask_everybody()
    wait_entries(server, 21)
    files[0].rename(files[2])
    server.child.send_signal(signal.SIGUSR1)
    wait_for(files[0].exists, "the file to be opened again")
    ask_everybody()
    wait_entries(server, 21)
    assert len(entries(server, "access.log.2")) == 21


def test_moved_away_without_a_word(serve: Serve, site: Site) -> None:
    server = serve("hello", "--access-log", "log/access.log", "--max-pool-size", "1", wait=False)
    assert server.wait_exit() == 1
    (site.directory / "log").mkdir()
    server = serve("hello", "--access-log", "log/access.log", "--max-pool-size", "1")
    server.get("/")
    (site.directory / "log").rename(site.directory / "old")
    assert server.get("/").status == 200
    (site.directory / "log").mkdir()

    def asked_in_the_new_file() -> bool:
        server.get("/")
        return (site.directory / "log" / "access.log").exists()

    wait_for(asked_in_the_new_file, "the file to be made anew")
    assert "GET / HTTP/1.1" in (site.directory / "old" / "access.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a device that is full")
def test_a_full_disk_harms_no_request(serve: Serve) -> None:
    server = serve("hello", "--access-log", "/dev/full", "--max-pool-size", "1")
    assert [server.get("/").status for _ in range(5)] == [200] * 5
    server.wait_log("the access log /dev/full cannot be written: No space left on device")
    assert server.log().count("/dev/full") == 1


def test_json_in_the_server_log(serve: Serve) -> None:
    server = serve("hello", "--access-log", "-", "--access-log-format", "json", "--log-level", "error")
    server.get("/a")
    exchange_bytes(server.address, b"GET /slow HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 200 + b"\r\n")
    found = [server.wait_log(rf'(App|Server) \d+( stdout)?: (.*"status": {status}.*)$')[3] for status in (200, 431)]
    lines: list[dict[str, Any]] = [json.loads(line) for line in found]
    assert [line["request"] for line in lines] == ["GET /a HTTP/1.1", "GET /slow HTTP/1.1"]


def test_off_in_production_and_on_in_development(serve: Serve, site: Site) -> None:
    quiet = serve("hello", "--max-pool-size", "1")
    quiet.get("/quiet")
    quiet.stop()
    server = serve("hello", "--max-pool-size", "1", "-e", "development", "--access-log-format", "%(m)s->%(s)s")
    server.get("/loud")
    server.wait_log(r"stdout: GET->200$")
    assert "/quiet" not in quiet.log()


def test_a_framework_s_own_lines_stay_and_ours_come_beside_them(site: Site, launch: Launch) -> None:
    site.add_project("flask")
    port = free_port()
    environment = {"FLASK_APP": "app", "APPSRV_ACCESS_LOG": "access.log"}
    server = launch([sys.executable, "-m", "flask", "run", "-p", str(port)], ("127.0.0.1", port), environment)
    server.wait_ready().get("/pid/")
    server.wait_log(r'stderr: 127.0.0.1 - - .*"GET /pid/ HTTP/1.1')
    assert wait_entries(server, 1)[0]["line"] == "GET /pid/ HTTP/1.1"
