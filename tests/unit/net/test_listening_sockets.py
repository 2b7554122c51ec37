"""listening_sockets.py: real listening sockets on free ports and in temporary directories."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.errors import ListenError
from appsrv.net import listening_sockets as listeners
from appsrv.net.listening_sockets import Listener, adopt, listen, listen_unix, remove_unix


@pytest.fixture
def open_sockets() -> Iterator[list[socket.socket]]:
    """Sockets that are closed in the end."""
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()


@pytest.fixture
def short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path that a unix socket can have, however deep the temporary directory is."""
    monkeypatch.chdir(tmp_path)
    return "app.sock"


def test_a_free_port_is_chosen(open_sockets: list[socket.socket]) -> None:
    found, sockets = listen("127.0.0.1", 0)
    open_sockets += sockets
    assert found.port == sockets[0].getsockname()[1] != 0
    assert found.url == f"http://127.0.0.1:{found.port}/"
    with socket.create_connection(("127.0.0.1", found.port)) as client:
        client.send(b"x")
        assert not sockets[0].getblocking()


def test_localhost_is_ipv4(open_sockets: list[socket.socket]) -> None:
    found, sockets = listen("localhost", 0)
    open_sockets += sockets
    assert found.sockets == len(sockets) == 1
    assert sockets[0].family == socket.AF_INET


def test_ipv6(open_sockets: list[socket.socket]) -> None:
    try:
        found, sockets = listen("::1", 0, ipv6=True)
    except ListenError:
        pytest.skip("this machine has no IPv6")
    open_sockets += sockets
    assert found.url == f"http://[::1]:{found.port}/"


@pytest.mark.parametrize("host", ["::", "*"])
def test_every_address_is_that_of_both_families(open_sockets: list[socket.socket], host: str) -> None:
    try:
        found, sockets = listen(host, 0, ipv6=":" in host)
    except ListenError:
        pytest.skip("this machine has no IPv6")
    open_sockets += sockets
    assert found.url == f"http://[::]:{found.port}/"
    for address in ("127.0.0.1", "::1"):
        socket.create_connection((address, found.port)).close()


def test_without_ipv6(monkeypatch: pytest.MonkeyPatch, open_sockets: list[socket.socket]) -> None:
    """As with a kernel that was started with ipv6.disable=1."""
    real = socket.socket

    def no_ipv6(family: int = -1, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    with pytest.raises(ListenError, match=r"cannot listen on \[::\]:0: .*this machine has no IPv6"):
        listen("::", 0, ipv6=True)
    found, sockets = listen("*", 0)
    open_sockets += sockets
    assert found.host == "0.0.0.0"


def test_a_port_in_use_says_what_to_do(open_sockets: list[socket.socket]) -> None:
    found, sockets = listen("127.0.0.1", 0)
    open_sockets += sockets
    with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{found.port}.*--port") as caught:
        listen("127.0.0.1", found.port)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("192.0.2.1", 0, "--address"),
        ("no-such-host.invalid", 0, "no-such-host.invalid"),
        ("127.0.0.1", 65536, "0 to 65535"),
        ("a" * 64, 0, "cannot listen on aaa"),
    ],
)
def test_addresses_that_cannot_be(host: str, port: int, words: str) -> None:
    with pytest.raises(ListenError, match=words) as caught:
        listen(host, port)
    assert caught.value.errno


def test_a_unix_socket(short_path: str, open_sockets: list[socket.socket]) -> None:
    found, sockets = listen_unix(short_path)
    open_sockets += sockets
    assert found.url == f"unix:{os.path.abspath(short_path)}"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(short_path)
    remove_unix(found)
    assert not os.path.exists(short_path)
    remove_unix(found)
    remove_unix(Listener("127.0.0.1", 8000))


def test_a_dead_servers_socket_file_is_replaced(short_path: str, open_sockets: list[socket.socket]) -> None:
    _, first = listen_unix(short_path)
    first[0].close()
    _, sockets = listen_unix(short_path)
    open_sockets += sockets
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(short_path)


def test_a_live_servers_socket_file_is_not(short_path: str, open_sockets: list[socket.socket]) -> None:
    _, sockets = listen_unix(short_path)
    open_sockets += sockets
    with pytest.raises(ListenError, match="another program listens there") as caught:
        listen_unix(short_path)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_live_server_that_is_too_busy_to_answer_is_live(
    short_path: str, open_sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its backlog is full: connecting would block, which must not be taken for an end, nor waited for."""
    monkeypatch.setattr(listeners, "BACKLOG", 0)
    _, sockets = listen_unix(short_path)
    open_sockets += sockets
    for _ in range(4):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        open_sockets.append(client)
        client.connect_ex(short_path)
    with pytest.raises(ListenError, match="another program listens there"):
        listen_unix(short_path)


def test_a_file_of_that_name_stays(short_path: str) -> None:
    Path(short_path).write_text("precious")
    with pytest.raises(ListenError, match="a file of that name exists"):
        listen_unix(short_path)
    assert Path(short_path).read_text() == "precious"


@pytest.mark.parametrize("path", ["no/such/app.sock", "file/app.sock", "x" * 200])
def test_paths_that_cannot_be(path: str, short_path: str) -> None:
    Path("file").write_text("")
    with pytest.raises(ListenError, match="cannot listen on") as caught:
        listen_unix(path)
    assert "None" not in str(caught.value)


def test_a_listener_travels_as_json() -> None:
    found = Listener("localhost", 80, sockets=2)
    assert Listener(**found.to_json()) == found


def test_a_socket_is_adopted(open_sockets: list[socket.socket]) -> None:
    found, sockets = listen("127.0.0.1", 0)
    adopted = adopt(os.dup(sockets[0].fileno()))
    open_sockets += [*sockets, adopted]
    assert adopted.getsockname() == ("127.0.0.1", found.port)
    assert not adopted.getblocking()
    assert stat.S_ISSOCK(os.fstat(adopted.fileno()).st_mode)
