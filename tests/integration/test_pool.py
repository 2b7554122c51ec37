"""The pool: as many workers as the load needs, between the two limits, and an honest answer when full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from integration.conftest import Serve
from support.http import Connection
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.both_queues


@contextmanager
def held(server: Server, count: int, first: int = 0) -> Iterator[list[Connection]]:
    """So many requests in flight, each in the application or waiting for it; released at the end."""
    names = [f"r{number}" for number in range(first, first + count)]
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server)) for _ in names]
        for name, connection in zip(names, connections, strict=True):
            connection.request("GET", f"/hold?name={name}")
        try:
            yield connections
        finally:
            for name in names:
                server.site.write(f"{name}.release", "")
            for connection in connections:
                connection.getresponse().read()


@contextmanager
def closing(server: Server) -> Iterator[Connection]:
    connection = server.keep_alive()
    try:
        yield connection
    finally:
        connection.close()


def begun(server: Server) -> int:
    return len(list(server.site.directory.glob("*.begun")))


def test_minimum_is_there_at_boot(serve: Serve) -> None:
    server = serve("holding", "--min-instances", "2", "--max-pool-size", "3")
    assert len(server.wait_workers(2)) == 2


def test_grows_while_requests_wait_and_shrinks_when_idle(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "3", "--pool-idle-time", "1")
    with held(server, 5):
        wait_for(lambda: begun(server) == 3, "three requests in the application")
        wait_for(lambda: server.group()["queue"] == 2, "two requests in the queue")
        assert len(server.worker_pids()) == 3
    server.wait_workers(1, seconds=20)
    assert server.get("/").status == 200


def test_full_queue_answers_503_with_retry_after(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1", "--max-request-queue-size", "2")
    with held(server, 3):
        wait_for(lambda: server.group()["queue"] == 2, "a full queue")
        refused = server.get("/")
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
    assert server.get("/").status == 200


def test_worker_leaves_after_max_requests(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1", "--max-requests", "10")
    first = int(server.get("/").text)
    connection = server.keep_alive()
    replies = [connection.exchange("GET", "/") for _ in range(60)]
    connection.close()
    assert {reply.status for reply in replies} == {200}
    assert {int(reply.text) for reply in replies} - {first}, "the same worker served 61 requests"


def test_threads_serve_at_once_in_one_process(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1", "--threads", "4")
    with held(server, 4):
        wait_for(lambda: begun(server) == 4, "four requests in one process")
        assert len(server.worker_pids()) == 1


def test_direct_spawn_method(serve: Serve) -> None:
    server = serve("holding", "--spawn-method", "direct", "--min-instances", "2")
    assert len(server.wait_workers(2)) == 2
    assert server.get("/").status == 200
