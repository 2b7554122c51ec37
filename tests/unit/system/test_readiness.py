"""readiness.py: what a read would not wait for."""

from __future__ import annotations

import os
import resource
import socket

import pytest

from appsrv.system.readiness import has_input


def test_bytes_a_connection_and_the_end_are_input() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not has_input(ours.fileno())
        theirs.send(b"x")
        assert has_input(ours.fileno())
        ours.recv(1)
        assert not has_input(ours.fileno())
        theirs.close()
        assert has_input(ours.fileno())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert not has_input(listening.fileno())
        with socket.create_connection(listening.getsockname()):
            assert has_input(listening.fileno())


def test_a_descriptor_above_those_of_select() -> None:
    number = 2000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= number:
        pytest.skip("this process may not have so many descriptors")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.dup2(ours.fileno(), number)
        try:
            assert not has_input(number)
            theirs.send(b"x")
            assert has_input(number)
        finally:
            os.close(number)
