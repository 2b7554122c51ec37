"""arrival_time.py: the kernel's clock on what has come in over TCP, and nothing pretended elsewhere."""

from __future__ import annotations

import socket
import time

import pytest

from appsrv.net.arrival_time import KNOWN, StampedSocket, stamp_connections_of
from support.waiting import wait_for


def connected(listening: socket.socket) -> tuple[socket.socket, StampedSocket]:
    client = socket.socket(listening.family)
    client.connect(listening.getsockname())
    accepted, _ = listening.accept()
    return client, StampedSocket(accepted.detach())


@pytest.mark.skipif(not KNOWN, reason="Linux stamps TCP")
def test_when_bytes_arrived() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stamp_connections_of(listening)
        client, server = connected(listening)
    with client, server:
        # The kernel begins to stamp a moment after it was asked to.
        wait_for(lambda: client.send(b"x") and server.recv(1) and server.arrived, "the first stamp")
        before = time.time()
        client.send(b"request")
        assert server.recv(1, socket.MSG_PEEK) == b"r"
        after = time.time()
        while time.time() < after + 0.02:
            pass
        assert server.recv(100) == b"request"
        # The clock of the stamps may be read a tick before the one that is asked here.
        assert before - 0.005 <= server.arrived <= after
        client.close()
        assert server.recv(100) == b""
        assert server.arrived == 0.0


def test_nothing_is_known_of_a_connection_that_was_not_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client, server = connected(listening)
    with client, server:
        client.send(b"request")
        assert (server.recv(100), server.arrived) == (b"request", 0.0)


def test_unix_sockets(tmp_path: object) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/s")
        listening.listen()
        stamp_connections_of(listening)
        client, server = connected(listening)
    with client, server:
        client.send(b"request")
        assert (server.recv(100), server.arrived) == (b"request", 0.0)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(100)
