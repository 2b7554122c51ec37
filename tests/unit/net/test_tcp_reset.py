"""tcp_reset.py: what a client sees while another process holds its connection too."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator

import pytest

from appsrv.net.tcp_reset import reset_now, reset_when_closed


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """(the client's end, ours, another holder's descriptor of ours), with something sent to the client."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    held = ours.dup()
    client.settimeout(5)
    ours.sendall(b"part")
    assert client.recv(10) == b"part"
    yield client, ours, held
    for sock in (client, ours, held):
        sock.close()


def has_heard(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


def test_the_close_of_the_last_descriptor_resets(ends: tuple[socket.socket, ...]) -> None:
    client, ours, held = ends
    reset_when_closed(ours)
    ours.close()
    assert not has_heard(client)
    held.close()
    with pytest.raises(ConnectionResetError):
        client.recv(10)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the reset waits for the last descriptor")
def test_a_reset_need_not_wait_for_other_holders(ends: tuple[socket.socket, ...]) -> None:
    client, ours, held = ends
    reset_now(ours)
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    assert held.fileno() >= 0


def test_a_connection_that_has_ended_is_no_error(ends: tuple[socket.socket, ...]) -> None:
    client, ours, _ = ends
    client.close()
    reset_now(ours)
    reset_now(ours)
    reset_when_closed(ours)


def test_a_socket_without_resets_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reset_now(ours)
        reset_when_closed(ours)
