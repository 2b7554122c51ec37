"""Requests to tests/apps/holding.py: each lasts until it is released."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from support.http import Connection
from support.server import Server


@contextmanager
def requests_to(server: Server, count: int) -> Iterator[list[Connection]]:
    """So many requests that each last until `release`."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server)) for _ in range(count)]
        for number, connection in enumerate(connections):
            connection.request("GET", f"/hold?name=r{number}")
        yield connections


def release(server: Server, count: int) -> None:
    for number in range(count):
        server.site.write(f"r{number}.release", "")


@contextmanager
def held(server: Server, count: int) -> Iterator[None]:
    """So many requests in flight, each in the application or waiting for it; all end well."""
    with requests_to(server, count) as connections:
        try:
            yield
        finally:
            release(server, count)
        assert {connection.getresponse().status for connection in connections} == {200}


@contextmanager
def closing(server: Server) -> Iterator[Connection]:
    connection = server.keep_alive()
    try:
        yield connection
    finally:
        connection.close()


def begun(server: Server) -> int:
    return len(list(server.site.directory.glob("*.begun")))
