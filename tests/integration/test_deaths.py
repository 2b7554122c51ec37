"""Every death has a cause: said in the log, kept for `status`, joined to the error page, with the last words."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import Launch, Serve
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

DYING = """
import ctypes, os, signal, sys, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path != "/":
        for number in range(25):
            print("words", number)
        print("a secret of the database", file=sys.stderr)
    if path == "/exit":
        os._exit(7)
    if path == "/segfault":
        ctypes.string_at(0)
    if path == "/hang":
        open("hanging", "w").close()
        time.sleep(60)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture
def server(serve: Serve, site: Site) -> Server:
    site.write("dying.py", DYING)
    return serve("dying:application", "--max-pool-size", "1", "--stop-timeout", "1")


def death_of(server: Server, pid: int) -> dict[str, Any]:
    """What `status` says of it, its last words included."""

    def told() -> dict[str, Any] | None:
        death: dict[str, Any] | None = server.group()["last_death"]
        return death if death is not None and death["pid"] == pid and death["last_lines"] else None

    return wait_for(told, f"the death of {pid} in the status")


@pytest.mark.parametrize(
    ("target", "cause", "last"),
    [
        ("/exit", "exit code 7", "a secret of the database"),
        ("/segfault", "killed by SIGSEGV", r'  File ".*/dying.py", line 13 in application'),
    ],
)
def test_the_cause_and_the_last_words(server: Server, site: Site, target: str, cause: str, last: str) -> None:
    pid = min(server.worker_pids())
    page = server.get(f"{target}?token=of-somebody")
    assert page.status == 502
    assert "secret" not in page.text, "a page in production shows nothing of the application's words"
    death = death_of(server, pid)
    assert death["cause"].startswith(cause)
    assert death["error_id"] in page.text
    assert death["requests"] == [f"GET {target}"]
    assert len(death["last_lines"]) <= 20
    assert any(re.fullmatch(last, line) for line in death["last_lines"]), death["last_lines"]
    server.wait_log(rf"error id {death['error_id']}: .*GET {target} .*{cause}")
    server.wait_log(rf"error id {death['error_id']}: the last lines that worker {pid} wrote:$")
    server.wait_log(rf"ERROR +\| {last}$")
    shown = site.command("status", "--show", "deaths").stdout
    assert f"PID: {pid}" in shown
    assert f"Error id {death['error_id']}: was serving GET {target}" in shown
    assert "token" not in server.log() + shown
    assert re.search(rf"^    \| {last}$", shown, re.MULTILINE), shown


def test_a_kill_of_our_own_is_named_as_such(server: Server, site: Site) -> None:
    pid = min(server.worker_pids())
    connection = server.keep_alive()
    connection.request("GET", "/hang")
    wait_for((site.directory / "hanging").exists, "the request in the application")
    assert site.command("restart-app", ".").returncode == 0
    death = death_of(server, pid)
    assert death["cause"] == "killed by appsrv: stop_timeout of 1 s is over"
    assert death["error_id"] in connection.getresponse().read().decode()
    connection.close()


def test_a_kill_from_outside(server: Server) -> None:
    pid = min(server.worker_pids())
    os.kill(pid, signal.SIGKILL)
    death = wait_for(lambda: server.group()["last_death"], "the death in the status")
    assert death["cause"].startswith("killed by SIGKILL, not by appsrv")
    assert death["error_id"] == ""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="only root may give a process other control groups")
def test_the_kernel_s_killer_is_named(launch: Launch, site: Site) -> None:
    """In a mount namespace of its own, where the test is the kernel that keeps the counter."""
    site.write("dying.py", DYING)
    port = free_port()
    script = (
        "mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory && cd /sys/fs/cgroup && "
        'for file in memory.events memory/memory.oom_control; do echo "oom_kill 3" > $file; done && cd "$1" && '
        f"exec {COMMAND} start dying:application --max-pool-size 1 --port {port}"
    )
    server = launch(["unshare", "-m", "sh", "-c", script, "sh", str(site.directory)], ("127.0.0.1", port))
    server.wait_ready()
    for file in ("memory.events", "memory/memory.oom_control"):
        Path(f"/proc/{server.pid}/root/sys/fs/cgroup/{file}").write_text("oom_kill 4\n")
    first = min(server.worker_pids())
    os.kill(first, signal.SIGKILL)
    server.wait_log(rf"worker {first} .* ended: killed by the kernel, out of memory \(SIGKILL\)")
    second = min(wait_for(lambda: server.worker_pids() - {first}, "another worker"))
    os.kill(second, signal.SIGKILL)
    server.wait_log(rf"worker {second} .* ended: killed by SIGKILL, not by appsrv$")
    group = json.loads(site.command("status", "--json").stdout)["app_groups"][0]
    assert [death["pid"] for death in group["deaths"]] == [first, second]
