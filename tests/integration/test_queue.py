"""Requests that wait for a free worker: how many, how long, and for whom."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from integration.conftest import Serve
from support.holding import begun, held, release
from support.server import Server, Site
from support.waiting import wait_for


@contextmanager
def asked(server: Server, path: str, version: str = "1.1") -> Iterator[socket.socket]:
    """A client that has sent a request."""
    assert isinstance(server.address, tuple)
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(f"GET {path} HTTP/{version}\r\nHost: x\r\n\r\n".encode())
        yield client


def everything(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def queue_length(server: Server) -> int:
    length: int = server.group()["queue"]
    return length


@pytest.mark.both_queues
def test_a_number_that_may_wait_is_meant(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1", "--max-request-queue-size", "1")
    with held(server, 2):
        wait_for(lambda: begun(server) == 1 and queue_length(server) == 1, "one in the application, one in the queue")
        assert [server.get("/").status for _ in range(3)] == [503] * 3


@pytest.mark.both_queues
def test_a_request_that_has_waited_too_long_is_answered_504(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1", "--max-request-queue-time", "2")
    with held(server, 1):
        wait_for(lambda: begun(server) == 1, "a request in the application")
        reply = server.get("/")
        assert reply.status == 504
        assert "too busy" in reply.text
        assert server.group()["timed_out"] == 1
    server.wait_log(r"requests are answered 504: .*max_request_queue_time \(2 s\)")
    assert server.get("/").status == 200


@pytest.mark.both_queues
def test_a_request_whose_client_has_gone_reaches_no_worker(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1")
    with held(server, 1):
        wait_for(lambda: begun(server) == 1, "a request in the application")
        for gone, end in enumerate(("closed", "reset"), 1):
            with asked(server, f"/hold?name={end}") as client:
                wait_for(lambda: queue_length(server) == 1, "a request in the queue")
                if end == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_for(lambda gone=gone: server.group()["abandoned"] == gone, "the request to be dropped")  # type: ignore[misc]
        with asked(server, "/") as patient:
            wait_for(lambda: queue_length(server) == 1, "a request in the queue")
            release(server, 1)
            assert b"200 OK" in patient.recv(65536)
    assert not [path.name for path in server.site.directory.glob("*.begun") if path.stem in ("closed", "reset")]


@pytest.mark.both_queues
def test_a_client_that_has_only_stopped_sending_gets_its_answer(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "1")
    with held(server, 1):
        wait_for(lambda: begun(server) == 1, "a request in the application")
        with asked(server, "/", "1.1") as client, asked(server, "/", "1.0") as old:
            for one in (client, old):
                one.shutdown(socket.SHUT_WR)
            assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            wait_for(lambda: queue_length(server) == 2, "two requests in the queue")
            release(server, 1)
            for one in (client, old):
                assert everything(one).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.group()["abandoned"] == 0


def test_status_lists_requests(serve: Serve, site: Site) -> None:
    server = serve("holding", "--max-pool-size", "1")
    with held(server, 1):
        wait_for(lambda: begun(server) == 1, "a request in the application")
        with asked(server, "/basket?card=4711"):
            wait_for(lambda: queue_length(server) == 1, "a request in the queue")
            listed: list[dict[str, Any]] = json.loads(site.command("status", "--show=requests", "--json").stdout)[
                "requests"
            ]
            assert [(r["state"], r["method"], r["path"]) for r in listed] == [
                ("in progress", "GET", "/hold"),
                ("waiting", "GET", "/basket"),
            ]
            assert listed[0]["pid"] in server.worker_pids()
            assert listed[1]["pid"] is None
            assert 0 <= listed[1]["age"] <= listed[0]["age"] < 60
            table = site.command("status", "--show=requests").stdout
            assert "/basket" in table
            assert "4711" not in table
