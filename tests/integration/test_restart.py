"""Restarts: who may ask for one and how, what a new generation has to show first, what stays when it fails."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from integration.conftest import Serve
from support.load import Load
from support.server import Server, Site
from support.waiting import wait_for

APP = """
import os, sys
VERSION = {version!r}

def application(environ, start_response):
    status, body = "200 OK", VERSION
    if environ["PATH_INFO"] == "/health":
        print("asked for health by", environ["HTTP_USER_AGENT"], "at", environ["HTTP_HOST"])
        status = {health!r}
        if status == "raise":
            raise RuntimeError("no database")
    start_response(status, [("Content-Length", str(len(body)))])
    return [body.encode()]
"""


def write(site: Site, version: str, health: str = "200 OK") -> None:
    # Python takes a compiled file for current if size and whole second of its source are the same.
    site.write("app.py", APP.format(version=version, health=health) + "#" * sum(map(ord, version + health)))


@pytest.mark.parametrize("method", ["smart", "direct"])
def test_a_new_generation_has_to_pass_the_health_check(serve: Serve, site: Site, method: str) -> None:
    write(site, "one", "500 At The Start Nothing Else Could Serve" if method == "smart" else "200 OK")
    server = serve(
        "app:application", "--min-instances", "2", "--health-path", "/health", "--health-host", "shop.example",
        "--spawn-method", method,
    )
    old = server.wait_workers(2)
    for number, health in enumerate(("503 Service Unavailable", "raise"), 2):
        write(site, f"sick-{number}", health)
        with Load(server.address, 2) as load:
            done = site.command("restart-app", ".")
        status = "503" if health != "raise" else "500"
        assert done.returncode == 1
        assert f"the health check GET /health was answered with {status}" in done.stderr
        assert load.failures == []
        assert set(load.answers) == {"one"}, "no client has seen the new code"
        assert old <= server.worker_pids()
        group = server.group()
        assert group["resisting"]
        assert f"answered with {status}" in group["last_error"]["message"]
    write(site, "well", "302 Found")
    assert site.command("restart-app", ".").returncode == 0
    assert server.get("/").text == "well"
    assert not server.group()["resisting"]
    assert server.group()["last_error"] is None
    server.wait_log("stdout: asked for health by appsrv-health-check at shop.example$")


def test_after_a_failed_restart_the_old_code_stays_whatever_dies(serve: Serve, site: Site) -> None:
    """Frozen on what it has in memory: on the disk lies what does not work."""
    write(site, "one")
    server = serve("app:application", "--min-instances", "2")
    old, preloader = server.wait_workers(2), server.pid_of("appsrv preloader")
    site.write("app.py", "import module_that_is_not_there\n")
    assert site.command("restart-app", ".").returncode == 1
    wait_for(lambda: preloaders(server) == [preloader], "the end of the failed preloader, and of no other")
    os.kill(min(old), signal.SIGKILL)
    wait_for(lambda: len(server.worker_pids() - {min(old)}) == 2, "another worker of the old code")
    assert server.get("/").text == "one"
    shown = site.command("status").stdout
    assert "Resisting deployment error: the previous code keeps serving" in shown
    assert "module_that_is_not_there" in shown
    hung = server.pid_of("appsrv server")
    os.kill(hung, signal.SIGKILL)
    assert server.get("/").text == "one"
    server.wait_workers(2)
    assert server.status()["server"]["pid"] != hung
    assert "Resisting deployment error" in site.command("status").stdout
    write(site, "two")
    assert site.command("restart-app", ".").returncode == 0
    assert server.get("/").text == "two"
    assert "Resisting" not in site.command("status").stdout


def preloaders(server: Server) -> list[int]:
    return [pid for pid, title in server.titles().items() if title.startswith("appsrv preloader")]


FRAGILE = """
import os
from pathlib import Path
from appsrv import hooks

here = Path(__file__).parent
if (here / "unloadable").exists():
    raise RuntimeError("unloadable")
hooks.after_fork(lambda: os._exit(7) if (here / "unbootable").exists() else None)

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("cause", ["unloadable", "unbootable"])
def test_an_outage_without_min_instances_ends_when_its_cause_does(serve: Serve, site: Site, cause: str) -> None:
    """All requests are answered at once meanwhile, so that none of them waits for a worker."""
    site.write("app.py", FRAGILE)
    server = serve("app:application", "--min-instances", "0", wait=False)
    wait_for(lambda: "Accessible via" in server.terminal, "its banner")
    (site.directory / cause).touch()
    if cause == "unloadable":
        os.kill(server.pid_of("appsrv preloader"), signal.SIGKILL)
    wait_for(lambda: server.get("/").status == 503, "the outage")
    assert server.group()["state"] == "broken"
    (site.directory / cause).unlink()
    wait_for(lambda: server.get("/").status == 200, "the end of the outage")
    assert server.group()["state"] == "running"


MEETING = """
import os, time
from pathlib import Path
from appsrv import hooks

def meet():
    # Three have to boot at the same time.
    here, deadline = Path(__file__).parent, time.monotonic() + 10
    (here / f"boots-{os.getpid()}").touch()
    while len(list(here.glob("boots-*"))) < 3:
        time.sleep(0.01)
        if time.monotonic() > deadline:
            os._exit(9)

hooks.after_fork(meet)

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("asked", ["command", "setting"])
def test_several_at_a_time(serve: Serve, site: Site, asked: str) -> None:
    site.write("app.py", MEETING)
    command, setting = (["--parallel", "3"], []) if asked == "command" else ([], ["--restart-parallel", "3"])
    server = serve("app:application", "--min-instances", "4", "--max-pool-size", "4", *setting)
    server.wait_workers(4)
    for boots in site.directory.glob("boots-*"):
        boots.unlink()
    with Load(server.address, 2) as load:
        done = site.command("restart-app", ".", *command)
    assert done.returncode == 0, done.stderr
    assert load.failures == []
    assert server.wait_workers(4)
    assert site.command("restart-app", ".", "--parallel", "0").returncode == 2


def test_the_restart_file(serve: Serve, site: Site) -> None:
    """Touched, created or replaced: without a request that would notice."""
    write(site, "one")
    server = serve("app:application")
    for version in ("two", "three"):
        write(site, version)
        site.write("tmp/restart.txt", "")
        server.wait_log(rf"at generation {['two', 'three'].index(version) + 2}$")
        assert server.get("/").text == version
    (site.directory / "tmp/restart.txt").unlink()
    os.kill(server.pid, signal.SIGHUP)
    wait_for(lambda: server.group()["generation"] == 4, "the restart by signal, and none by the removal")
    server.wait_log(r"/tmp/restart.txt was touched$")


def test_a_preloader_that_cannot_be_started(serve: Serve, site: Site) -> None:
    """The server has no room for one more descriptor: its channel to the new preloader is lost on the way."""
    write(site, "one")
    server = serve("app:application")
    process = psutil.Process(server.pid_of("appsrv server"))
    limits = process.rlimit(psutil.RLIMIT_NOFILE)
    preloader = server.pid_of("appsrv preloader")
    process.rlimit(psutil.RLIMIT_NOFILE, (0, limits[1]))
    os.kill(server.pid, signal.SIGHUP)
    server.wait_log("no process can be started: the server is out of descriptors")
    process.rlimit(psutil.RLIMIT_NOFILE, limits)
    assert server.get("/").text == "one"
    assert server.group()["state"] == "running"
    assert "out of descriptors" in server.group()["last_error"]["message"]
    wait_for(lambda: preloaders(server) == [preloader], "the end of the one that was lost")
    write(site, "two")
    assert site.command("restart-app", ".").returncode == 0
    assert server.get("/").text == "two"
