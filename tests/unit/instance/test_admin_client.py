"""The admin client against a fake server on a real unix socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.errors import AdminError, NotRunning
from appsrv.instance.admin_client import AdminClient
from support.admin import STATUS, FakeAdmin


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


@pytest.fixture
def fake(path: Path) -> Iterator[FakeAdmin]:
    with FakeAdmin(path) as server:
        yield server


def test_each_question_has_its_request_and_answer(path: Path, fake: FakeAdmin) -> None:
    fake.answers["POST /restart"] = (200, {"restarted": [{"name": "/srv/shop", "ok": True}]})
    client = AdminClient(path)
    assert client.status() == STATUS
    assert client.restart("/srv") == [{"name": "/srv/shop", "ok": True}]
    client.reopen_logs()
    client.stop()
    assert fake.asked == [
        ("GET /status", None),
        ("POST /restart", {"prefix": "/srv"}),
        ("POST /reopen-logs", None),
        ("POST /stop", None),
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, {"error": "not your instance"}), "the server refused: not your instance"),
        ((500, b"<html>"), "the server refused: HTTP status 500"),
        ((200, b"<html>"), "not a JSON object"),
        ((200, [1]), "not a JSON object"),
    ],
)
def test_refusals(path: Path, fake: FakeAdmin, answer: tuple[int, object], said: str) -> None:
    fake.answers["GET /status"] = answer
    with pytest.raises(AdminError, match=said):
        AdminClient(path).status()


def test_nobody_is_there(path: Path) -> None:
    with pytest.raises(NotRunning) as caught:
        AdminClient(path).status()
    assert caught.value.exit_code == 3


def test_a_socket_that_nobody_serves(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(NotRunning):
        AdminClient(path).status()


def test_a_server_that_is_being_replaced_is_waited_for(path: Path) -> None:
    started = threading.Event()
    servers: list[FakeAdmin] = []

    def alive() -> bool:
        """The client has found nobody: from now on somebody is there."""
        if not started.is_set():
            servers.append(FakeAdmin(path).__enter__())
            started.set()
        return True

    try:
        assert AdminClient(path, alive).status() == STATUS
    finally:
        servers[0].__exit__()


def test_a_server_that_does_not_come_back(path: Path) -> None:
    with pytest.raises(AdminError, match="is running, but its server process does not listen"):
        AdminClient(path, lambda: True, start_timeout=0.05).status()


def test_a_server_that_dies_while_it_is_asked(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        accepting = threading.Thread(target=lambda: listener.accept()[0].close())
        accepting.start()
        with pytest.raises(AdminError, match="ended before it answered"):
            AdminClient(path).restart("/")
        accepting.join()


def test_a_server_that_is_silent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(AdminError, match="does not answer"):
            AdminClient(path)._request("GET", "/status", timeout=0.05)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match="cannot be used"):
        AdminClient(tmp_path / ("x" * 120)).status()
