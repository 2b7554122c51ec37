"""Death of any process: noticed, named, replaced; nobody's connection is refused."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from integration.conftest import Figures, Serve
from support.http import connect
from support.load import Load
from support.server import Server
from support.waiting import wait_for

# Words of the manual's table that are no keys of the object itself.
VALUES = {"booting", "running", "restarting", "broken", "idle", "busy", "retiring", "ok", "failed", "requests",
          "busy_seconds", "address", "fields"}


@pytest.mark.both_queues
def test_client_of_a_dead_worker_is_answered(serve: Serve) -> None:
    server = serve("crashing", "--max-pool-size", "1")
    for target, cause in (("/kill", "SIGKILL"), ("/segfault", "SIGSEGV"), ("/exit", r"exit.*7")):
        pid = int(server.get("/").text)
        reply = server.get(target)
        assert reply.status == 502, target
        error_id = re.search(r"\b[0-9a-f]{8}\b", reply.text)
        assert error_id, reply.text
        line = server.wait_log(rf"^.*{error_id.group()}.*$").group()
        assert str(pid) in line
        assert f"was serving GET {target} for" in line
        assert re.search(cause, line), line
        assert int(server.get("/").text) != pid
        assert server.group()["last_death"]["pid"] == pid


def test_the_keys_of_status_are_those_that_the_manual_promises(serve: Serve) -> None:
    server = serve("crashing")
    assert server.get("/kill").status == 502
    wait_for(lambda: server.group()["last_death"] and server.group()["workers"], "a death and a worker")
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    section = manual.partition("### `status --json`")[2].partition("\n### ")[0]
    rows = {row.split("|")[1].strip(): set(re.findall(r"`(\w+)`", row.split("|")[2])) for row in section.splitlines()
            if row.startswith("| ")}
    status = server.status()
    group = status["app_groups"][0]
    for name, found in {
        "all": status, "`instance`": status["instance"], "`server`": status["server"], "each of `app_groups`": group,
        "each of `preloaders`": group["preloaders"][0], "each of `workers`": group["workers"][0],
        "`last_death`, or null, and each of `deaths`": group["last_death"],
    }.items():
        assert not set(found) - rows[name], f"not in the manual: {name}"
        assert not {word for word in rows[name] - set(found) if word not in VALUES}, f"promised in vain: {name}"


def test_an_application_that_writes_into_the_channels_harms_only_itself(serve: Serve) -> None:
    server = serve("meddling")
    watchdog = server.pid_of("appsrv watchdog")
    for _ in range(3):
        assert int(server.get("/").text) > 0
    server.wait_log("preloader .* a message is ignored: no message starts like b'junk'")
    server.wait_log("worker .* a message is ignored: no message starts like b'junk'")
    server.wait_log("worker .* a message is ignored: no ClosedAll reads like b'2 things")
    server.wait_log("worker .* a message is ignored: a Ready with the pid [0-9]+, which is not that of the worker")
    before = server.worker_pids()
    os.kill(min(before), signal.SIGKILL)
    wait_for(lambda: server.worker_pids() - before, "another worker")
    assert not before & {worker["pid"] for worker in server.workers()}
    assert server.get("/").status == 200
    assert (server.pid_of("appsrv watchdog"), server.status()["server"]["restarts"]) == (watchdog, 0)


@pytest.mark.both_queues
def test_other_requests_survive_a_crash(serve: Serve) -> None:
    server = serve("crashing", "--max-pool-size", "3", "--min-instances", "3")
    server.wait_workers(3)
    with Load(server.address, 4) as load:
        for _ in range(3):
            assert server.get("/kill").status == 502
        served = load.served
        wait_for(lambda: load.served > served + 100, "100 more answers after the crashes")
    assert load.failures == []
    server.wait_workers(3)


def test_idle_worker_killed_from_outside_is_replaced(serve: Serve) -> None:
    server = serve("crashing", "--min-instances", "2")
    before = server.wait_workers(2)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: server.worker_pids() - before, "a replacement")
    assert victim not in server.worker_pids()


def test_killed_server_process_comes_back(serve: Serve) -> None:
    server = serve("crashing", "--min-instances", "2")
    preloader, old = server.pid_of("appsrv preloader"), server.pid_of("appsrv server")
    os.kill(old, signal.SIGKILL)
    assert server.get("/").status == 200, "asked at once: the socket never refuses"
    wait_for(lambda: server.status()["server"]["pid"] != old, "a new server process")
    server.wait_workers(2)
    assert server.pid_of("appsrv preloader") == preloader, "the application is not imported again"


def test_killed_preloader_comes_back(serve: Serve) -> None:
    server = serve("crashing")
    os.kill(server.pid_of("appsrv preloader"), signal.SIGKILL)
    pid = int(server.get("/").text)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.worker_pids() - {pid}, "a worker of a new preloader", 20)
    assert server.get("/").status == 200


@pytest.mark.both_queues
@pytest.mark.parametrize(
    ("kind", "most_failed"),
    [
        # The request that it was serving.
        ("worker", 1),
        ("preloader", 0),
        # One per connection at the most: those that were kept open end with it.
        ("server", 6),
    ],
)
def test_figures_of_a_kill_under_load(serve: Serve, kind: str, most_failed: int, figures: Figures) -> None:
    server = serve("crashing", "--min-instances", "2", "--max-pool-size", "2")
    server.wait_workers(2)
    count = len(server.titles())
    with Load(server.address, 4) as kept, Load(server.address, 2, keep_alive=False) as closing:
        wait_for(lambda: kept.served > 50 and closing.served > 20, "load")
        victim = min(pid for pid, title in server.titles().items() if title.startswith(f"appsrv {kind}"))
        started = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        assert server.get("/").status == 200
        answered = time.monotonic() - started
        wait_for(lambda: victim not in server.titles() and whole(server, count), "as many processes as before")
        whole_again = time.monotonic() - started
        served = kept.served + closing.served
        wait_for(lambda: kept.served + closing.served > served + 100, "answers afterwards")
    failed = kept.failures + closing.failures
    figures(
        f"kill -9 of the {kind}: next answer after {answered * 1000:.0f} ms, all processes there after "
        f"{whole_again * 1000:.0f} ms, {len(failed)} of {kept.served + closing.served} requests failed"
    )
    assert len(failed) <= most_failed, failed
    assert [failure for failure in failed if "Refused" in failure] == []


def whole(server: Server, count: int) -> bool:
    """Whether all processes are there and have come so far as to bear their titles."""
    titles = server.titles().values()
    return len(titles) == count and all(title.startswith("appsrv ") for title in titles)


@pytest.mark.may_leave_processes
def test_figures_of_a_kill_of_the_watchdog_under_load(serve: Serve, figures: Figures) -> None:
    """The one death that ends an instance: in order, and the next one can start at once."""
    server = serve("crashing", "--min-instances", "2", "--max-pool-size", "2")
    server.wait_workers(2)
    orphan = server.pid_of("appsrv server")
    with Load(server.address, 4) as load, ThreadPoolExecutor(1) as client:
        wait_for(lambda: load.served > 50, "load")
        started = time.monotonic()
        server.child.kill()
        server.wait_exit()
        wait_for(lambda: not listens(server), "the port to be free")
        second = serve("crashing", "--port", str(server.address[1]), wait=False)
        second.address = server.address
        first_answer = client.submit(answered_at, second)
        wait_for(lambda: set(server.titles()) <= {orphan}, "the end of the workers and of their preloader")
        alone = time.monotonic()
        wait_for(lambda: not server.titles(), "the end of the server")
        ended = time.monotonic()
        answered = first_answer.result()
    figures(
        f"kill -9 of the watchdog: a new appsrv start answers after {(answered - started) * 1000:.0f} ms, "
        f"{len(server.titles())} processes left after {(ended - started) * 1000:.0f} ms"
    )
    assert ended - alone < 4.0, "the server does not wait for ends that nobody reports"
    assert second.get("/").status == 200


def listens(server: Server) -> bool:
    try:
        connect(server.address).close()
    except ConnectionRefusedError:
        return False
    return True


def answered_at(server: Server) -> float:
    wait_for(lambda: answers(server), "an answer of the next instance", 30.0)
    return time.monotonic()


def answers(server: Server) -> bool:
    try:
        return server.get("/").status == 200
    except OSError:
        return False


@pytest.mark.may_leave_processes
def test_killed_watchdog_leaves_nothing_behind(serve: Serve) -> None:
    server: Server = serve("crashing")
    others = [psutil.Process(pid) for pid in server.titles() if pid != server.pid]
    server.child.kill()
    server.wait_exit()
    wait_for(lambda: not any(process.is_running() for process in others), "the end of the other processes")


@pytest.mark.may_leave_processes
def test_start_after_kill_of_everything(serve: Serve) -> None:
    """A stale pid file and run directory are no obstacle."""
    server = serve("crashing")
    server.kill_everything()
    again = server.site.command("status")
    assert again.returncode == 1, again.stderr
    port = str(server.address[1])
    second = serve("crashing", "--port", port)
    second.address = server.address
    assert second.get("/").status == 200
