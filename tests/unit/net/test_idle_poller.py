"""idle_poller.py: what this system has of epoll and kqueue."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from appsrv.net.idle_poller import MAX_EVENTS, EpollPoller, IdlePoller, KqueuePoller

HERE = [made for name, made in (("epoll", EpollPoller), ("kqueue", KqueuePoller)) if hasattr(select, name)]


@pytest.fixture(params=HERE)
def watch(request: pytest.FixtureRequest) -> Iterator[EpollPoller | KqueuePoller]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, client = socket.socketpair()
    with ours, client:
        yield ours, client


Ends = tuple[socket.socket, socket.socket]


def test_one_is_chosen() -> None:
    assert IdlePoller in HERE


def test_what_is_readable_is_reported_once(watch: EpollPoller | KqueuePoller, ends: Ends) -> None:
    ours, client = ends
    watch.add(ours.fileno())
    assert watch.ready() == []
    client.send(b"x")
    assert watch.ready() == [(ours.fileno(), 0)]
    client.send(b"y")
    assert watch.ready() == []
    watch.rearm(ours.fileno())
    assert watch.ready() == [(ours.fileno(), 0)], "what was there before counts"


def test_the_end_is_told(watch: EpollPoller | KqueuePoller, ends: Ends) -> None:
    ours, client = ends
    watch.add(ours.fileno())
    client.close()
    ((fd, ended),) = watch.ready()
    assert fd == ours.fileno()
    assert ended


def test_what_is_dropped_is_not_reported_though_another_holds_it(watch: EpollPoller | KqueuePoller, ends: Ends) -> None:
    ours, client = ends
    watch.add(ours.fileno())
    held = os.dup(ours.fileno())
    watch.remove(ours.fileno())
    watch.remove(ours.fileno())
    ours.close()
    client.send(b"x")
    assert watch.ready() == []
    os.close(held)


def test_a_lasting_one_is_reported_until_it_is_read(watch: EpollPoller | KqueuePoller, ends: Ends) -> None:
    ours, client = ends
    watch.add_permanent(ours.fileno())
    client.send(b"x")
    assert watch.ready() == watch.ready() == [(ours.fileno(), 0)]
    ours.recv(1)
    assert watch.ready() == []


def test_a_loop_can_watch_the_watch(watch: EpollPoller | KqueuePoller, ends: Ends) -> None:
    ours, client = ends
    watch.add(ours.fileno())
    assert select.select([watch.fileno()], [], [], 0)[0] == []
    client.send(b"x")
    assert select.select([watch.fileno()], [], [], 0)[0] == [watch.fileno()]
    assert MAX_EVENTS >= 64
