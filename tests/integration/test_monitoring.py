"""Monitoring: /metrics on the admin socket and the metrics port, the application's own metrics, the page."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from integration.conftest import Launch, Serve
from support.http import Address, Reply, exchange_bytes, send
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

APPLICATION = """
import os
from prometheus_client import Counter, Gauge

orders, alive = Counter("shop_orders", "Orders."), Gauge("shop_alive", "Workers.", multiprocess_mode="livesum")

def application(environ, start_response):
    orders.inc()
    alive.set(1)
    if environ["PATH_INFO"] == "/die":
        os._exit(3)
    status = "404 Not Found" if environ["PATH_INFO"] == "/none" else "200 OK"
    body = str(os.getpid()).encode()
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]
"""


def values(reply: Reply) -> dict[str, float]:
    """`name{label=value,...}` in order of the labels: value."""
    assert reply.status == 200, reply.text
    return {
        sample.name + "".join(f" {name}={sample.labels[name]}" for name in sorted(sample.labels) if name != "group"):
        sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def metrics_address(server: Server) -> Address:
    """Of a server that was told `--metrics-port 0`."""
    url = server.status()["instance"]["metrics"]
    return "127.0.0.1", int(url.rstrip("/").rpartition(":")[2])


@pytest.mark.both_queues
def test_requests_are_counted_and_survive_their_worker(serve: Serve) -> None:
    server = serve("hello", "--max-pool-size", "1", "--metrics-port", "0")
    port = metrics_address(server)

    def found() -> dict[str, float]:
        return values(send(port, "GET", "/metrics"))

    def answered(kind: str) -> float:
        return found()[f"appsrv_requests_total class={kind}"]

    for _ in range(3):
        assert server.get("/").status == 200
    exchange_bytes(server.address, b"NONSENSE\r\n\r\n")
    wait_for(lambda: answered("2xx") == 3 and answered("4xx") == 1, "four answers to be counted")
    (old,) = server.worker_pids()
    assert server.site.command("restart-app", ".").returncode == 0
    wait_for(lambda: server.worker_pids() and old not in server.worker_pids(), "another worker")
    assert server.get("/").status == 200
    wait_for(lambda: answered("2xx") == 4, "the old worker's answers and the new one's")
    wait_for(lambda: found()["appsrv_service_seconds_count"] == 4, "the time that they took")
    assert found()["appsrv_restarts_total outcome=ok"] == 1
    assert found()["appsrv_generation"] == 2
    assert values(send(server.admin_socket(), "GET", "/metrics"))["appsrv_requests_served_total"] >= 4


def test_a_death_is_counted_by_its_cause(serve: Serve) -> None:
    server = serve("hello", "--min-instances", "1", "--metrics-port", "0")
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGKILL)

    def deaths(cause: str) -> float:
        found = values(send(server.admin_socket(), "GET", "/metrics"))
        return found.get(f"appsrv_worker_deaths_total cause={cause}", 0)

    wait_for(lambda: deaths("SIGKILL") == 1, "the death to be counted")
    assert deaths("exit") == 0


def test_nothing_listens_unless_asked_and_only_here(serve: Serve) -> None:
    server = serve("hello", "--metrics-port", "0")
    address = metrics_address(server)
    assert send(address, "GET", "/", None, {"Host": "evil.example"}).status == 421
    assert send(address, "POST", "/metrics").status == 405
    assert send(address, "GET", "/restart").status == 404
    page = send(address, "GET", "/")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not serve("hello").status()["instance"]["metrics"]


def test_a_port_that_is_taken_is_an_error_that_names_it(serve: Serve, site: Site) -> None:
    taken = metrics_address(serve("hello", "--metrics-port", "0"))[1]
    said = site.command("start", "hello:application", "-p", str(free_port()), "--metrics-port", str(taken))
    assert said.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken} for metrics: Address already in use" in said.stderr


def test_the_applications_own_metrics(serve: Serve, site: Site) -> None:
    site.write("shop.py", APPLICATION)
    server = serve("shop:application", "--min-instances", "2", "--metrics-port", "0", "--prometheus-multiproc")
    address = metrics_address(server)
    assert server.get("/").status == 200
    assert server.get("/die").status == 502

    def found() -> dict[str, float]:
        return values(send(address, "GET", "/metrics/application"))

    assert found()["shop_orders_total"] == 2, "what the dead worker has counted stays"
    (directory,) = site.run.glob("appsrv/*/prometheus-*")
    assert directory.stat().st_mode & 0o777 == 0o700
    dead = wait_for(lambda: server.group()["last_death"], "the death to be known")["pid"]
    wait_for(lambda: str(dead) not in gauges(directory), "the gauges of the dead worker to be gone")
    alive = {str(pid) for pid in (*server.worker_pids(), server.group()["preloaders"][0]["pid"])}
    assert gauges(directory) <= alive
    server.stop()
    assert not directory.exists()


def test_the_own_metrics_of_several_applications_say_whose_they_are(site: Site, launch: Launch) -> None:
    for name in ("shop", "blog"):
        site.write(f"{name}/app.py", APPLICATION)
    apps = "".join(f'[[apps]]\nroot = "{name}"\nbase_uri = "/{name}"\n' for name in ("shop", "blog"))
    site.write("appsrv.toml", f"prometheus_multiproc = true\nmetrics_port = 0\n{apps}")
    address = ("127.0.0.1", free_port())
    server = launch([COMMAND, "start", "--port", str(address[1])], address).wait_ready()
    for path in ("/shop", "/shop", "/blog"):
        assert server.get(path).status == 200
    text = send(metrics_address(server), "GET", "/metrics/application").text
    counts = {
        Path(sample.labels["group"]).name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "shop_orders_total"
    }
    assert counts == {"shop": 2, "blog": 1}
    assert text.count("# HELP shop_orders_total") == 1


def gauges(directory: Path) -> set[str]:
    """The pids that have a gauge of the living."""
    return {path.stem.rpartition("_")[2] for path in directory.glob("gauge_live*")}
