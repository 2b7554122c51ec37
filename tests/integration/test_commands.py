"""`status`, `stop`, `restart-app`, `reopen-logs`: what they print, and the codes they end with."""

from __future__ import annotations

import json
import re
import resource
import signal
import statistics
from pathlib import Path

import pytest

from integration.conftest import Serve, Share
from support.load import Load
from support.server import Site
from support.waiting import wait_for

DOCS = Path(__file__).resolve().parents[2] / "docs"
VERSIONED = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "9")])
    return [b"version {number}"]
"""


# -- status ------------------------------------------------------------------------------------------------


def test_status_has_the_familiar_layout(serve: Serve, site: Site) -> None:
    server = serve("hello", "--min-instances", "2")
    server.wait_workers(2)
    server.get("/")
    done = site.command("status")
    assert done.returncode == 0, done.stderr
    for words in (
        "General information",
        "Max pool size",
        "Application groups",
        "PID",
        "Sessions",
        "Processed",
    ):
        assert words in done.stdout
    for words in ("Uptime", "CPU", "Memory", "Last used", str(site.directory)):
        assert words in done.stdout
    assert all(str(pid) in done.stdout for pid in server.worker_pids())


def documented_keys(name: str) -> set[str]:
    """The keys of an object of `status --json` in docs/operations.md; parentheses hold what a key means."""
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", page, re.MULTILINE)
    assert row, f"docs/operations.md has no row for {name!r} in the table of status --json"
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row[1])))


def test_status_json_has_everything(serve: Serve, site: Site) -> None:
    server = serve("hello", "--max-pool-size", "1")
    for _ in range(5):
        server.get("/")
    # A worker is done a moment after it has answered.
    wait_for(lambda: [(w["processed"], w["state"]) for w in server.workers()] == [(5, "idle")], "five requests done")
    status = json.loads(site.command("status", "--json").stdout)
    assert status["instance"]["pid"] == server.pid
    worker = status["app_groups"][0]["workers"][0]
    assert worker["processed"] == 5
    assert worker["memory"] > 1_000_000
    assert worker["state"] == "idle"
    group = status["app_groups"][0]
    objects = {"all": status, "`instance`": status["instance"], "`server`": status["server"]}
    objects |= {"each of `app_groups`": group, "each of `workers`": worker}
    objects["each of `preloaders`"] = group["preloaders"][0]
    differences = {name: documented_keys(name) ^ set(value) for name, value in objects.items()}
    assert {name: keys for name, keys in differences.items() if keys} == {}
    assert set(status["app_groups"][0]) >= {
        "name",
        "generation",
        "queue",
        "last_error",
        "last_death",
        "state",
    }


def test_status_of_nothing(site: Site) -> None:
    assert site.command("status").returncode == 3


@pytest.mark.may_leave_processes
def test_status_of_a_dead_one(serve: Serve, site: Site) -> None:
    serve("hello").kill_everything()
    done = site.command("status")
    assert done.returncode == 1, done.stdout + done.stderr


def test_status_is_quick(share: Share) -> None:
    site = share("hello").site
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert site.command("status").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Of processor time, whatever else the machine does; how long it takes is the promise of tests/benchmarks.
    assert statistics.median(times) < 0.6


# -- stop --------------------------------------------------------------------------------------------------


def test_stop(serve: Serve, site: Site) -> None:
    server = serve("hello")
    done = site.command("stop")
    assert done.returncode == 0, done.stderr
    assert "Stopping web server" in done.stdout
    server.wait_exit()
    assert site.command("status").returncode == 3


def test_stop_of_nothing(site: Site) -> None:
    assert site.command("stop").returncode == 1
    assert site.command("stop", "--ignore-pid-not-found").returncode == 0


def test_stop_finishes_what_is_in_flight(serve: Serve, site: Site) -> None:
    server = serve("holding")
    connection = server.keep_alive()
    connection.request("GET", "/hold?name=last")
    wait_for((site.directory / "last.begun").exists, "the request in the application")
    server.child.send_signal(signal.SIGTERM)
    server.wait_log("(?i)stop")
    site.write("last.release", "")
    assert connection.getresponse().status == 200
    connection.close()
    server.wait_exit()


# -- restart-app -------------------------------------------------------------------------------------------


def write_version(site: Site, number: int) -> None:
    # Python takes a compiled file for current if size and whole second of its source are the same.
    site.write("app.py", VERSIONED.format(number=number) + "#" * number)


def wait_answers(load: Load, text: str) -> None:
    wait_for(lambda: load.answers[text] > 20, f"answers {text!r}")


@pytest.mark.both_queues
def test_restart_under_load_drops_nothing(serve: Serve, site: Site) -> None:
    write_version(site, 1)
    server = serve("app:application", "--min-instances", "2")
    with Load(server.address, 4) as kept, Load(server.address, 2, keep_alive=False) as closing:
        wait_for(lambda: kept.served > 50 and closing.served > 20, "load")
        for number in (2, 3):
            write_version(site, number)
            done = site.command("restart-app", ".")
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"Restarting {site.directory} (production)" in done.stdout
            wait_answers(kept, f"version {number}")
    assert kept.failures + closing.failures == []
    assert server.get("/").text == "version 3"
    assert server.group()["generation"] == 3


def test_broken_code_leaves_the_old_serving(serve: Serve, site: Site) -> None:
    write_version(site, 1)
    server = serve("app:application")
    site.write("app.py", "import module_that_is_not_there\n")
    done = site.command("restart-app", str(site.directory))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No module named 'module_that_is_not_there'" in done.stdout + done.stderr
    assert server.get("/").text == "version 1"
    assert server.group()["last_error"]["traceback"]
    write_version(site, 2)
    assert site.command("restart-app", str(site.directory)).returncode == 0
    assert server.get("/").text == "version 2"


def test_restart_waits_for_requests_in_flight(serve: Serve, site: Site) -> None:
    server = serve("holding")
    old = min(server.worker_pids())
    connection = server.keep_alive()
    connection.request("GET", "/hold?name=long")
    wait_for((site.directory / "long.begun").exists, "the request in the application")
    assert site.command("restart-app", str(site.directory)).returncode == 0
    assert int(server.get("/").text) != old
    site.write("long.release", "")
    response = connection.getresponse()
    assert (response.status, int(response.read())) == (200, old)
    connection.close()


def test_restart_that_matches_nothing(share: Share) -> None:
    site = share("hello").site
    assert site.command("restart-app", "/no/such/app").returncode == 1
    assert site.command("restart-app", "/no/such/app", "--ignore-app-not-running").returncode == 0


def test_restart_without_path_needs_a_terminal(share: Share) -> None:
    site = share("hello").site
    done = site.command("restart-app")
    assert done.returncode != 0
    assert "path" in done.stderr.lower()


# -- reopen-logs -------------------------------------------------------------------------------------------


def test_reopen_logs(serve: Serve, site: Site) -> None:
    server = serve("printing")
    server.get("/print?before")
    server.wait_log("stdout: before$")
    log = Path(server.status()["instance"]["log_file"])
    rotated = log.with_suffix(".old")
    log.rename(rotated)
    assert site.command("reopen-logs").returncode == 0
    server.get("/print?after")
    wait_for(lambda: log.exists() and "stdout: after" in log.read_text(), "the line in the new file")
    assert "stdout: after" not in rotated.read_text()
