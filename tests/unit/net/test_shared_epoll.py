"""shared_epoll.py: one event to one waiter, with ids of our choice, over real descriptors."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from appsrv.net.shared_epoll import AVAILABLE, SharedEpoll

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="epoll is Linux's")


@pytest.fixture
def epoll() -> Iterator[SharedEpoll]:
    """A shared epoll instance."""
    made = SharedEpoll.create()
    yield made
    os.close(made.fd)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(ours, the client's)"""
    ours, client = socket.socketpair()
    ours.setblocking(False)
    yield ours, client
    ours.close()
    client.close()


def readable(epoll: SharedEpoll) -> bool:
    poll = select.poll()
    poll.register(epoll, select.POLLIN)
    return bool(poll.poll(0))


def test_it_fires_once_with_the_id_it_was_given(epoll: SharedEpoll, pair: tuple[socket.socket, ...]) -> None:
    big = 2**63 + 5
    entry, waiter = epoll.register(pair[0].fileno(), big), epoll.waiter()
    pair[1].send(b"x")
    assert waiter.next(0) is None, "not armed yet"
    entry.arm()
    assert readable(epoll)
    assert waiter.next(0) == big
    assert waiter.next(0) is None
    assert not readable(epoll)


def test_it_fires_again_when_it_is_armed_again(epoll: SharedEpoll, pair: tuple[socket.socket, ...]) -> None:
    entry, waiter = epoll.register(pair[0].fileno(), 7), epoll.waiter()
    entry.arm()
    pair[1].send(b"x")
    for _ in range(3):
        assert waiter.next(0) == 7
        entry.arm()
    pair[0].recv(10)
    assert waiter.next(0) is None


def test_a_client_that_closes_fires_too(epoll: SharedEpoll, pair: tuple[socket.socket, ...]) -> None:
    epoll.register(pair[0].fileno(), 7).arm()
    pair[1].close()
    assert epoll.waiter().next(0) == 7


def test_one_event_goes_to_one_waiter(epoll: SharedEpoll) -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    got: list[int] = []

    def wait() -> None:
        waiter = epoll.waiter()
        while (ident := waiter.next(10_000)) != 0:
            assert ident is not None
            got.append(ident)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for ident, (ours, client) in enumerate(pairs, 1):
        epoll.register(ours.fileno(), ident).arm()
        client.send(b"x")
    stop, bell = os.pipe()
    os.write(bell, b"x")
    end = epoll.register(stop, 0)
    for thread in threads:
        end.arm()
        while thread.is_alive() and readable(epoll):
            thread.join(0.01)
    while any(thread.is_alive() for thread in threads):
        end.arm()
        threads[0].join(0.001)
    assert sorted(got) == list(range(1, 21))
    for ours, client in pairs:
        ours.close()
        client.close()
    os.close(stop)
    os.close(bell)


def test_two_processes_arm_the_same_connection(epoll: SharedEpoll, pair: tuple[socket.socket, ...]) -> None:
    """Another holder has another number for the same file: an entry of its own, of which one fires at a time."""
    copy = os.dup(pair[0].fileno())
    ours, theirs = epoll.register(pair[0].fileno(), 7), epoll.register(copy, 7)
    waiter = epoll.waiter()
    pair[1].send(b"x")
    for entry in (ours, theirs, ours, theirs):
        entry.arm()
        assert waiter.next(0) == 7
        assert waiter.next(0) is None
    os.close(copy)


def test_an_entry_that_another_process_has_made_is_taken_over(
    epoll: SharedEpoll, pair: tuple[socket.socket, ...]
) -> None:
    """EEXIST: the same (file, number) is there already."""
    epoll.register(pair[0].fileno(), 7).arm()
    again = epoll.register(pair[0].fileno(), 7)
    again.arm()
    pair[1].send(b"x")
    assert epoll.waiter().next(0) == 7
    again.arm()
    assert epoll.waiter().next(0) == 7


def test_an_entry_that_has_vanished_is_made_again(epoll: SharedEpoll, pair: tuple[socket.socket, ...]) -> None:
    """ENOENT: somebody else has taken the known entry out."""
    entry = epoll.register(pair[0].fileno(), 7)
    entry.arm()
    epoll.register(pair[0].fileno(), 7).forget()
    entry.arm()
    pair[1].send(b"x")
    assert epoll.waiter().next(0) == 7


def test_a_forgotten_entry_does_not_fire(epoll: SharedEpoll, pair: tuple[socket.socket, ...]) -> None:
    entry = epoll.register(pair[0].fileno(), 7)
    entry.arm()
    pair[1].send(b"x")
    entry.forget()
    entry.forget()
    assert epoll.waiter().next(0) is None


def test_a_closed_descriptor_is_told(epoll: SharedEpoll) -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        epoll.register(read, 7).arm()


def test_the_instance_is_not_inherited_by_programs(epoll: SharedEpoll) -> None:
    assert not os.get_inheritable(epoll.fd)
