"""What a service manager tells and is told."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.system.service_manager import Notifier, passed_sockets, watchdog_interval


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, [3, 4]),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "two"}, []),
        ({"LISTEN_FDS": "1"}, []),
    ],
)
def test_passed_sockets(environ: dict[str, str], expected: list[int]) -> None:
    assert passed_sockets(environ, 7) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "4000000"}, 2.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "7"}, 2.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_watchdog_interval(environ: dict[str, str], expected: float) -> None:
    assert watchdog_interval(environ, 7) == expected


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind(str(tmp_path / "notify") if request.param == "path" else f"\0{tmp_path.name}.{id(sock)}")
    yield sock
    sock.close()


def notifier(manager: socket.socket) -> Notifier:
    address = manager.getsockname()
    return Notifier({"NOTIFY_SOCKET": address if isinstance(address, str) else "@" + address[1:].decode()})


def test_words(manager: socket.socket) -> None:
    service = notifier(manager)
    assert service.wanted
    service.ready()
    service.status("running: 2 workers")
    service.status("running: 2 workers")
    service.alive()
    service.stopping()
    heard = [manager.recv(200) for _ in range(4)]
    assert heard == [b"READY=1", b"STATUS=running: 2 workers", b"WATCHDOG=1", b"STOPPING=1"]
    service.reloading()
    assert manager.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_a_busy_manager_hears_of_the_state_later(manager: socket.socket) -> None:
    service = notifier(manager)
    for _ in range(600):
        service.alive()
    service.reloading()
    service.ready()
    heard = set()
    while select.select([manager], [], [], 0)[0]:
        heard.add(manager.recv(200))
    assert heard == {b"WATCHDOG=1"}
    service.alive()
    assert manager.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert [manager.recv(200) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]


def test_a_manager_that_is_gone_or_none_at_all_keeps_nobody_waiting(manager: socket.socket) -> None:
    service = notifier(manager)
    manager.close()
    service.ready()
    nobody = Notifier({})
    assert not nobody.wanted
    nobody.ready()
