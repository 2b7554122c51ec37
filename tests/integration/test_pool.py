"""The pool: as many workers as the load needs, between the two limits, and an honest answer when full."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest

from integration.conftest import Serve
from support.holding import begun, closing, held, release, requests_to
from support.load import Load
from support.server import Site
from support.waiting import wait_for


@pytest.mark.both_queues
def test_grows_while_requests_wait_and_shrinks_when_idle(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "3", "--pool-idle-time", "1")
    with held(server, 5):
        wait_for(lambda: begun(server) == 3, "three requests in the application")
        wait_for(lambda: server.group()["queue"] == 2, "two requests in the queue")
        assert len(server.worker_pids()) == 3
    server.wait_workers(1, seconds=20)
    assert server.get("/").status == 200


@pytest.mark.both_queues
def test_full_queue_answers_503_with_retry_after(serve: Serve) -> None:
    """One works, two wait, the fourth is too many; which of those that wait is refused is the queue's affair."""
    server = serve("holding", "--max-pool-size", "1", "--max-request-queue-size", "2")
    with requests_to(server, 4) as connections:
        by_socket = {connection.sock: connection for connection in connections}
        answered, _, _ = select.select(list(by_socket), [], [], 15)
        assert len(answered) == 1
        refused = by_socket.pop(answered[0]).getresponse()
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        release(server, 4)
        assert {connection.getresponse().status for connection in by_socket.values()} == {200}
    assert server.get("/").status == 200


@pytest.mark.both_queues
def test_worker_leaves_after_max_requests(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1", "--max-requests", "10")
    first = int(server.get("/").text)
    with Load(server.address, 2) as load:
        wait_for(lambda: len(load.answers) > 2, "a second and a third worker")
    assert load.failures == []
    wait_for(lambda: first not in server.worker_pids(), "the end of the first worker")


@pytest.mark.both_queues
def test_threads_serve_at_once_in_one_process(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1", "--threads", "4")
    with held(server, 4):
        wait_for(lambda: begun(server) == 4, "four requests in one process")
        assert len(server.worker_pids()) == 1


def test_direct_spawn_method(serve: Serve) -> None:
    server = serve("holding", "--spawn-method", "direct", "--min-instances", "2")
    assert len(server.wait_workers(2)) == 2
    assert server.get("/").status == 200


@pytest.mark.both_queues
def test_a_worker_that_is_told_to_leave_while_a_request_comes_loses_it_not(serve: Serve) -> None:
    """Requests that come just when their worker has been idle for long enough, again and again."""
    server = serve("holding", "--min-instances", "0", "--pool-idle-time", "0.05", wait=False)
    wait_for(lambda: "Accessible via" in server.terminal, "the application to be loaded")
    pids = set()
    with closing(server) as connection:
        for number in range(40):
            reply = connection.exchange("GET", "/")
            assert reply.status == 200, f"request {number}"
            pids.add(reply.text)
            # Before, at and after the time at which the load monitor, every 20 ms, finds it idle.
            time.sleep(0.05 + number % 8 * 0.005)
    assert len(pids) > 3, "workers have left in between"
    assert "ERROR" not in server.log()


def test_the_minimum_is_restored_after_a_death_that_nobody_tells(serve: Serve, site: Site) -> None:
    """The preloader is killed while it is stopped, and its workers, dead already, with it."""
    server = serve("holding", "--min-instances", "3", "--max-pool-size", "3")
    first = server.wait_workers(3)
    wait_for(lambda: all(worker["uptime"] > 1.5 for worker in server.workers()), "workers that have proved to live")
    (preloader,) = [preloader["pid"] for preloader in server.group()["preloaders"]]
    os.kill(preloader, signal.SIGSTOP)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    os.kill(preloader, signal.SIGKILL)
    wait_for(lambda: len(server.worker_pids()) == 3 and not server.worker_pids() & first, "three new workers", 20)
    assert server.get("/").status == 200


def test_an_application_that_cannot_be_started_again_is_answered_with_an_id(serve: Serve, site: Site) -> None:
    server = serve("holding", environment={"TOKEN": "do-not-show"})
    site.write("holding.py", "import os\nraise KeyError(os.environ['TOKEN'])\n")
    (preloader,) = [preloader["pid"] for preloader in server.group()["preloaders"]]
    for pid in (preloader, *server.worker_pids()):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.get("/").status == 503, "the page of the outage")
    reply = server.get("/")
    error_id = reply.text.partition("Error id: ")[2].partition("<")[0]
    server.wait_log(rf"error id {error_id}: all requests to .* are answered 503: ")
    server.wait_log("KeyError")
    assert "do-not-show" not in reply.text
    assert "Traceback" not in reply.text
    assert int(reply.headers["Retry-After"]) > 0
