"""`probe_path` and `stop_delay`: what a load balancer is told, in good and in bad times, and what it then does."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from integration.conftest import QUEUES, Launch, Serve
from support.http import Reply
from support.load import Load
from support.server import APPS, COMMAND, Server, Site, free_port
from support.waiting import wait_for
from support.web_servers import haproxy, start_haproxy

SCALING = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
PATH = "/-/healthy"
PROBE = ("--probe-path", PATH)


def told(server: Server) -> tuple[int, str]:
    reply = server.get(PATH)
    return reply.status, reply.text


def from_the_docs() -> str:
    found = re.search(r"```haproxy\n(.*?)```", SCALING.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def is_plain(reply: Reply) -> bool:
    kind, cache = reply.headers["Content-Type"], reply.headers["Cache-Control"]
    return (kind, cache) == ("text/plain; charset=utf-8", "no-store")


@pytest.mark.parametrize(
    ("concurrency", "ready_queue"),
    [((), QUEUES[0]), (("--threads", "4"), QUEUES[-1]), (("--concurrency-model", "gevent"), QUEUES[-1])],
    indirect=["ready_queue"],
    ids=str,
)
def test_while_it_serves(serve: Serve, site: Site, concurrency: tuple[str, ...]) -> None:
    log = site.directory / "access.log"
    server = serve("echo", *PROBE, *concurrency, "--access-log", str(log), "--request-metrics")
    client = server.keep_alive()
    for method, body in (("GET", b"ok\n"), ("HEAD", b""), ("GET", b"ok\n")):
        reply = client.exchange(method, f"{PATH}?from=balancer")
        assert (reply.status, reply.body) == (200, body)
        assert is_plain(reply)
    refused = client.exchange("POST", PATH, b"x" * 100_000)
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert client.exchange("GET", "/other").status == 200
    client.close()
    wait_for(lambda: "/other" in log.read_text(), "the access log")
    assert [line.split('"')[1] for line in log.read_text().splitlines()] == ["GET /other HTTP/1.1"]
    counted = server.group()["served"]["classes"]
    assert (counted["2xx"], counted["4xx"]) == (1, 0)


def test_off_it_is_the_applications(serve: Serve) -> None:
    assert serve("hello").get(PATH).text == "Hello, world!\n"


def test_in_an_outage(serve: Serve, site: Site) -> None:
    log = site.directory / "access.log"
    server = serve("holding", *PROBE, "--access-log", str(log))
    whole = (site.directory / "holding.py").read_text()
    site.write("holding.py", "raise KeyError('secret')\n")
    for pid in (*[preloader["pid"] for preloader in server.group()["preloaders"]], *server.worker_pids()):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.get("/").status == 503, "the outage")
    reply = server.get(PATH)
    assert reply.status == 503
    assert is_plain(reply)
    start = "the application cannot be started: the reason is in the server log (error id "
    assert reply.text.startswith(start)
    server.wait_log(rf"error id {reply.text.removeprefix(start)[:8]}: all requests to .* are answered 503: ")
    assert (server.request("HEAD", PATH).body, server.request("POST", PATH).status) == (b"", 405)
    assert PATH not in log.read_text()
    site.write("holding.py", whole)
    wait_for(lambda: told(server) == (200, "ok\n"), "the end of the outage", 30.0)


def test_before_it_stops(serve: Serve, site: Site) -> None:
    server = serve("hello", *PROBE, "--stop-delay", "60", "--min-instances", "2")
    assert told(server) == (200, "ok\n")
    stopping = threading.Thread(target=site.command, args=("stop",))
    stopping.start()
    wait_for(lambda: told(server) == (503, "stopping\n"), "the probe to be told")
    # New workers tell the same; requests are answered all the time.
    before = server.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(server.worker_pids() - before) == 2, "other workers")
    assert told(server) == (503, "stopping\n")
    assert server.get("/").text == "Hello, world!\n"
    server.wait_log(r"stopping in 60 s \(stop_delay\): requests are accepted until then$")
    # Somebody does not want to wait.
    assert server.stop(signal.SIGINT) == 0
    stopping.join()


@pytest.mark.parametrize("method", ["smart", "direct"])
def test_what_dies_while_it_is_about_to_stop_is_replaced(serve: Serve, method: str) -> None:
    server = serve("hello", "--stop-delay", "60", "--spawn-method", method)
    server.child.send_signal(signal.SIGTERM)
    server.wait_log("stopping in 60 s")
    for pid in (*[preloader["pid"] for preloader in server.group()["preloaders"]], *server.worker_pids()):
        os.kill(pid, signal.SIGKILL)
    assert server.get("/").text == "Hello, world!\n"
    assert server.stop(signal.SIGINT) == 0


def test_an_application_that_sleeps_is_woken_while_the_instance_is_about_to_stop(serve: Serve) -> None:
    server = serve(
        "hello", "--stop-delay", "60", "--min-instances", "0", "--pool-idle-time", "0.1",
        "--max-preloader-idle-time", "0.1", wait=False,
    )
    wait_for(lambda: "is unloaded" in server.terminal, "the application to sleep")
    server.child.send_signal(signal.SIGTERM)
    server.wait_log("stopping in 60 s")
    assert server.get("/").text == "Hello, world!\n"
    assert server.stop(signal.SIGINT) == 0


def test_another_term_changes_nothing(serve: Serve) -> None:
    server = serve("hello", "--stop-delay", "3")
    began = time.monotonic()
    server.child.send_signal(signal.SIGTERM)
    server.wait_log("stopping in 3 s")
    server.child.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert time.monotonic() - began >= 3.0
    assert server.log().count("stopping in 3 s") == 1


def test_an_interrupt_does_not_wait(serve: Serve) -> None:
    server = serve("hello", "--stop-delay", "60")
    assert server.stop(signal.SIGINT) == 0
    assert "stop_delay" not in server.log()


@pytest.mark.skipif(haproxy() is None, reason="no haproxy here")
def test_haproxy_loses_no_request_when_one_of_two_stops(serve: Serve, tmp_path: Path) -> None:
    """As docs/scaling.md has it: nothing is announced, the probe alone tells."""
    servers = [serve("hello", *PROBE, "--stop-delay", "6") for _ in range(2)]
    port, place = free_port(), tmp_path / "haproxy"
    place.mkdir()
    site = from_the_docs()
    for said, server in zip(("10.0.0.11:8000", "10.0.0.12:8000"), servers, strict=True):
        assert said in site
        site = site.replace(said, f"127.0.0.1:{server.address[1]}")
    proxy = start_haproxy(place, site.replace("bind :80", f"bind 127.0.0.1:{port}"), port)
    try:
        with Load(proxy.address, 3, keep_alive=False) as load:
            for server in servers:
                wait_for(lambda server=server: server.group()["served"]["requests"] > 20, "requests at both")  # type: ignore[misc]
            assert servers[0].stop() == 0
            served = load.served
            wait_for(lambda: load.served > served + 20, "the second to serve alone")
        assert load.failures == []
    finally:
        proxy.stop()


HOSTING = """
[[apps]]
root = "shop"
hosts = ["shop.example"]
[[apps]]
root = "blog"
base_uri = "/blog"
"""


def test_several_applications(site: Site, launch: Launch, ready_queue: str) -> None:
    """Each answers where it is; where none is, the instance does, so that a load balancer may ask by address alone."""
    for name in ("shop", "blog"):
        site.write(f"{name}/wsgi.py", (APPS / "hello.py").read_text())
    site.write("appsrv.toml", HOSTING)
    address = ("127.0.0.1", free_port())
    argv = [COMMAND, "start", "--port", str(address[1]), "--ready-queue", ready_queue, "--stop-delay", "60", *PROBE]
    server = launch(argv, address)
    wait_for(lambda: "Accessible via" in server.terminal, "its banner", 30.0)
    places = [(PATH, "127.0.0.1"), (PATH, "shop.example"), (f"/blog{PATH}", "127.0.0.1")]

    def answers() -> list[tuple[int, str]]:
        replies = [server.get(target, {"Host": host}) for target, host in places]
        return [(reply.status, reply.text) for reply in replies]

    assert answers() == [(200, "ok\n")] * 3
    assert [server.get("/", {"Host": host}).status for _, host in places] == [404, 200, 404]
    server.child.send_signal(signal.SIGTERM)
    wait_for(lambda: answers() == [(503, "stopping\n")] * 3, "all of them to be told")
    assert server.stop(signal.SIGINT) == 0
