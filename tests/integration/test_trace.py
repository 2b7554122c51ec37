"""`appsrv trace PID`: what a process is doing, however stuck it is, and it goes on as if nobody had asked."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import psutil
import pytest

from integration.conftest import Serve
from support.server import Server, Site
from support.waiting import wait_for

STUCK = """
import os, re, subprocess, sys, time

def begun():
    open("begun", "w").close()

def in_c_code():
    begun()
    # Backtracks for hours, and never lets go of the interpreter's lock.
    re.match(r"(a+)+$", "a" * 60 + "b")

def in_a_system_call():
    begun()
    read, _ = os.pipe()
    os.read(read, 1)

def asleep():
    begun()
    while not os.path.exists("go"):
        time.sleep(0.01)
        os.stat(".")

def with_a_child():
    child = subprocess.Popen(["sleep", "60"])
    open("child", "w").write(str(child.pid))

def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name:
        globals()[name]()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture
def server(serve: Serve, site: Site) -> Server:
    site.write("stuck.py", STUCK)
    return serve("stuck:application", "--max-pool-size", "1", "--threads", "2", "--stop-timeout", "1")


def traced(site: Site, pid: int) -> list[list[str]]:
    """The functions of each thread's stack, most recent call last."""
    done = site.command("trace", str(pid), "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["pid"] == pid
    return [[frame["function"] for frame in thread["frames"]] for thread in answer["threads"]]


@pytest.mark.parametrize("where", ["in_c_code", "in_a_system_call"])
def test_a_worker_that_is_stuck(server: Server, site: Site, where: str) -> None:
    pid = min(server.worker_pids())
    connection = server.keep_alive()
    connection.request("GET", f"/{where}")
    wait_for((site.directory / "begun").exists, "the request in the application")
    stacks = wait_for(lambda: [stack for stack in traced(site, pid) if where in stack], "the stuck function")
    assert stacks[0].index("application") == stacks[0].index(where) - 1
    shown = site.command("trace", str(pid)).stdout
    assert shown.startswith(f"appsrv worker {site.directory} (PID {pid})\n\nmain thread 0x")
    assert "re.match(" in shown if where == "in_c_code" else "os.read(read, 1)" in shown, shown
    connection.close()


def test_it_goes_on_as_if_nobody_had_asked(server: Server, site: Site) -> None:
    pid = min(server.worker_pids())
    connection = server.keep_alive()
    connection.request("GET", "/asleep")
    wait_for((site.directory / "begun").exists, "the request in the application")
    for _ in range(5):
        assert any("asleep" in stack for stack in traced(site, pid))
    site.write("go", "")
    assert connection.getresponse().status == 200
    assert server.worker_pids() == {pid}
    connection.close()


def test_every_kind_of_process(server: Server, site: Site) -> None:
    for pid, title in server.titles().items():
        assert any(traced(site, pid)), title
    assert server.get("/").status == 200


def test_a_server_that_hangs_can_still_be_looked_at(server: Server, site: Site) -> None:
    server.get("/")
    pid = min(server.worker_pids())
    hung = server.pid_of("appsrv server")
    os.kill(hung, signal.SIGSTOP)
    wait_for(lambda: psutil.Process(hung).status() == psutil.STATUS_STOPPED, "it to be stopped")
    assert any(traced(site, pid)), "the worker answers without it"
    done = site.command("trace", str(hung))
    assert done.returncode == 1
    assert "it is stopped" in done.stderr
    os.kill(hung, signal.SIGCONT)
    assert any(traced(site, hung))


def test_processes_that_are_not_ours_are_left_alone(server: Server, site: Site) -> None:
    server.get("/with_a_child")
    child = psutil.Process(int((site.directory / "child").read_text()))
    for pid, says in ((child.pid, "not one of appsrv's own"), (os.getpid(), "belongs to no running appsrv")):
        done = site.command("trace", str(pid))
        assert done.returncode == 1
        assert says in done.stderr
    assert child.is_running()
    child.kill()
