"""Requests that take too long and workers that take too much memory: both are ended, and nobody else suffers."""

from __future__ import annotations

import http.client
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.conftest import Serve
from support.http import exchange_bytes
from support.load import Load
from support.server import Site
from support.waiting import wait_for


def test_a_request_that_takes_too_long_is_answered_504_and_its_worker_replaced(serve: Serve) -> None:
    server = serve("greedy", "--max-pool-size", "1", "--max-request-time", "0.5")
    (first,) = server.worker_pids()
    reply = server.get("/spin?30")
    assert reply.status == 504
    error_id = reply.text.partition("Error id: ")[2].partition("<")[0]
    server.wait_log(rf"serving GET /spin for \d\.\d s, longer than max_request_time .*error id {error_id}; its stacks:")
    server.wait_log(r"in spin\b")
    assert "/spin?30" not in server.log().partition(error_id)[2].partition("\n")[0]
    server.wait_log(rf"worker {first} .* ended: killed by appsrv: .*max_request_time \(0\.5 s\)")
    assert server.log().count("error id") == 1, "the page's id, and no other one"
    assert "appsrv/worker/connection_handler.py" not in server.log()
    wait_for(lambda: server.worker_pids() - {first}, "another worker")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_it_is_answered_504_though_its_process_does_not_stop_at_once(serve: Serve, site: Site, threads: str) -> None:
    """As one that the system does not let run for a while."""
    os.mkfifo(site.directory / "fifo")
    server = serve("greedy", "--max-pool-size", "1", "--threads", threads, "--max-request-time", "0.5")
    (pid,) = server.worker_pids()
    with ThreadPoolExecutor(1) as client:
        asked = client.submit(server.get, "/vfork")
        wait_for(lambda: signal.SIGSTOP in pending(pid), "the order to stop")
        ordered = time.monotonic()
        wait_for(lambda: time.monotonic() > ordered + 0.5, "half a second in which it does not")
        with open(site.directory / "fifo", "wb"):
            assert asked.result().status == 504


def pending(pid: int) -> set[int]:
    """The signals that wait for the process to take them (proc(5))."""
    found = re.search(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return {number for number in range(1, 65) if int(found[1], 16) >> (number - 1) & 1}


def test_what_a_slow_request_does_is_logged_and_it_goes_on(serve: Serve, site: Site) -> None:
    server = serve("greedy", "--max-pool-size", "1", "--slow-request-time", "0.3")
    with ThreadPoolExecutor(1) as client:
        asked = client.submit(server.get, "/hold?1")
        said = server.wait_log(r"WARNING .*serving GET /hold for \d\.\d s, longer than slow_request_time \(0\.3 s\)")
        server.wait_log(r"in hold$")
        site.write("1.release", "")
        reply = asked.result()
    assert reply.status == 200
    assert server.log().count(said[0]) == 1
    assert int(server.get("/").text) == int(reply.text)


def test_a_response_that_has_begun_is_cut(serve: Serve) -> None:
    server = serve("greedy", "--max-request-time", "2")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        server.get("/begin?30")
    assert server.get("/").status == 200


def test_each_of_several_pipelined_requests_has_its_own_time(serve: Serve) -> None:
    server = serve("greedy", "--max-pool-size", "1", "--max-request-time", "2.5", "--slow-request-time", "2.3")
    asked = b"GET /sleep?0.2 HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = exchange_bytes(server.address, asked * 14 + asked.replace(b"Host", b"Connection: close\r\nHost"))
    assert answer.data.count(b"HTTP/1.1 200 OK") == 15
    assert "_request_time" not in server.log()


def test_other_threads_of_the_worker_finish_what_they_do(serve: Serve, site: Site) -> None:
    server = serve("greedy", "--max-pool-size", "1", "--threads", "3", "--max-request-time", "4")
    (first,) = server.worker_pids()
    with ThreadPoolExecutor(3) as pool:
        stuck = pool.submit(server.get, "/sleep?60")
        # In the middle of its time, so that they begin long before its end, and have long to go then.
        wait_for(lambda: server.oldest_request() > 2, "half of its time to be over")
        others = [pool.submit(server.get, f"/hold?{number}") for number in range(2)]
        wait_for(lambda: len(list(site.directory.glob("*.begun"))) == 2, "the others in the application")
        assert stuck.result().status == 504
        for number in range(2):
            site.write(f"{number}.release", "")
        assert [other.result().status for other in others] == [200, 200]
        assert {int(other.result().text) for other in others} == {first}
    server.wait_log(rf"worker {first} of .* retires: a request took longer than max_request_time")
    server.wait_log(rf"killing worker {first} ")
    assert int(server.get("/").text) != first
    assert "stop_timeout" not in server.log()


def test_a_worker_above_its_memory_limit_is_replaced_without_a_gap(serve: Serve) -> None:
    server = serve("greedy", "--max-pool-size", "1", "--memory-limit", "60M")
    first = int(server.get("/").text)
    assert int(server.get("/grow?70").text) == first
    with Load(server.address, 2) as load:
        server.wait_log(rf"worker {first} of .* retires: it used \d+M, above memory_limit \(60M\)")
        wait_for(lambda: first not in server.worker_pids(), "the end of the large worker")
    assert load.failures == []


def test_a_worker_above_its_hard_memory_limit_is_killed(serve: Serve) -> None:
    server = serve("greedy", "--max-pool-size", "1", "--hard-memory-limit", "60M")
    (first,) = server.worker_pids()
    # It may be killed before it has answered.
    server.get("/grow?70")
    server.wait_log(rf"worker {first} of .* ended: .*it used \d+M, above hard_memory_limit \(60M\)")
    assert int(server.get("/").text) != first
