"""Threads of the application that are at work when their worker is to leave: named in the log, and waited for."""

from __future__ import annotations

import re
import time

import psutil
import pytest

from integration.conftest import Launch, Serve
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

AT = r"at \S+/jobs\.py:\d+ in job"


def gone(server: Server, pid: int) -> None:
    wait_for(lambda: all(worker["pid"] != pid for worker in server.workers()), f"the end of worker {pid}")


def lines(server: Server, words: str) -> list[str]:
    return [line for line in server.log().splitlines() if words in line]


def release(site: Site) -> None:
    (site.directory / "release").touch()


def test_threads_at_work_are_named_and_those_without_work_are_not(serve: Serve, site: Site) -> None:
    server = serve("jobs", "--max-pool-size", "1", "--stop-timeout", "20")
    first = int(server.get("/waiting").text)
    assert site.command("restart-app", ".").returncode == 0
    gone(server, first)
    assert lines(server, "stderr") == []
    second = int(server.get("/executor").text)
    site.command("restart-app", ".")
    third = int(server.get("/daemon").text)
    site.command("restart-app", ".")
    without = r"without waiting for threads that are at work \(see busy_threads\)"
    server.wait_log(rf"App {third} stderr: appsrv: .* {without}: daemon thread 'report-daemon' {AT}$")
    gone(server, third)
    server.wait_log(rf"App {second} stderr: appsrv: .* after stop_timeout \(20 s\): thread 'exports_0' {AT}$")
    assert next(w for w in server.workers() if w["pid"] == second)["busy_threads"] == 1
    assert "1 threads are at work" in site.command("status").stdout
    release(site)
    gone(server, second)
    assert (site.directory / "executor.done").exists()
    assert not (site.directory / "daemon.done").exists()
    assert lines(server, "killing") == []


def test_a_worker_waits_for_its_threads(serve: Serve, site: Site) -> None:
    server = serve("jobs", "--max-pool-size", "1", "--stop-timeout", "0.5", "--busy-threads", "wait")
    kinds = ("executor", "thread", "daemon")
    pid = {int(server.get(f"/{kind}").text) for kind in kinds}.pop()
    began = time.monotonic()
    assert site.command("restart-app", ".").returncode == 0
    line = server.wait_log(rf"App {pid} stderr: appsrv: .*busy_threads_timeout \(300 s\): (.*)$")[1]
    assert len(re.findall(AT, line)) == 3
    wait_for(lambda: time.monotonic() - began > 1.5, "more than stop_timeout")
    worker = next(w for w in server.workers() if w["pid"] == pid)
    assert (worker["state"], worker["busy_threads"]) == ("retiring", 3)
    assert int(server.get("/").text) != pid
    release(site)
    gone(server, pid)
    assert all((site.directory / f"{kind}.done").exists() for kind in kinds)
    assert lines(server, "killing") == []


def test_a_worker_waits_no_longer_than_it_may(serve: Serve, site: Site) -> None:
    server = serve(
        "jobs", "--max-pool-size", "1", "--stop-timeout", "0.5", "--busy-threads", "wait", "--busy-threads-timeout", "2"
    )
    pid = int(server.get("/thread").text)
    site.command("restart-app", ".")
    server.wait_log(rf"killing worker {pid} of .*: busy_threads_timeout of 2 s is over")
    gone(server, pid)


@pytest.mark.parametrize(
    "why", [("--max-requests", "1"), ("--min-instances", "0", "--pool-idle-time", "0.5"), ("--memory-limit", "1M")]
)
def test_whatever_the_worker_leaves_for(serve: Serve, site: Site, why: tuple[str, ...]) -> None:
    server = serve("jobs", "--max-pool-size", "1", "--stop-timeout", "1", *why, wait=False).wait_listening()
    pid = int(server.get("/thread").text)
    server.wait_log(rf"App {pid} stderr: appsrv: .* after stop_timeout \(1 s\): thread 'report-thread' {AT}$")
    release(site)


def test_threads_of_the_concurrency_model_gevent(serve: Serve, site: Site) -> None:
    server = serve("jobs", "--max-pool-size", "1", "--concurrency-model", "gevent", "--busy-threads", "wait")
    pid = int(server.get("/thread").text)
    site.command("restart-app", ".")
    server.wait_log(rf"App {pid} stderr: appsrv: .*busy_threads_timeout \(300 s\): thread 'report-thread'")
    release(site)
    gone(server, pid)
    assert (site.directory / "thread.done").exists()


CHILDREN = """
import multiprocessing, os, time

def job():
    while not os.path.exists("release"):
        time.sleep(0.05)

def application(environ, start_response):
    child = multiprocessing.get_context("fork").Process(target=job, name="report")
    child.start()
    start_response("200 OK", [])
    return [str(child.pid).encode()]
"""


def test_a_child_that_its_worker_waits_for_is_named(serve: Serve, site: Site) -> None:
    site.write("children.py", CHILDREN)
    server = serve("children:application", "--max-pool-size", "1", "--stop-timeout", "20", wait=False)
    server.wait_listening()
    child = int(server.get("/").text)
    (worker,) = server.worker_pids()
    site.command("restart-app", ".")
    server.wait_log(rf"App {worker} stderr: appsrv: .* after stop_timeout \(20 s\): report \(pid {child}\)$")
    release(site)
    gone(server, worker)
    assert lines(server, "killing") == []


def test_a_development_server_does_not_wait_for_children(site: Site, launch: Launch) -> None:
    site.write("requirements.txt", "appsrv\n")
    site.write("app.py", f"{CHILDREN}\nfrom flask import Flask\napp = Flask(__name__)\napp.wsgi_app = application\n")
    port = free_port()
    server = launch([str(BIN / "flask"), "run", "--port", str(port)], ("127.0.0.1", port)).wait_listening()
    child = int(server.get("/").text)
    assert server.stop(seconds=10) == 0
    assert psutil.pid_exists(child)
    release(site)
    wait_for(lambda: not psutil.pid_exists(child), "the end of the child")
