"""min_rate.py: how long a client may take, and the bytes that it has received."""

from __future__ import annotations

import socket

import pytest

from appsrv.net.min_rate import DeliveredBytes, MinRate, unsent


def lasts(pieces: list[tuple[float, int]], pause: float, rate: float) -> float:
    """When a client is too slow that moves so many bytes at each of these times, and nothing afterwards."""
    min_rate = MinRate(pause, rate, 0.0)
    for when, count in pieces:
        if min_rate.left(when) == 0.0:
            break
        min_rate.progress(count, when)
    return min_rate.left(0.0)


def test_silence_lasts_one_pause() -> None:
    assert lasts([], 60.0, 240.0) == 60.0
    assert lasts([], 60.0, 0.0) == 60.0


def test_a_byte_a_minute_does_not_help() -> None:
    dribble = [(10.0 * n, 1) for n in range(1, 100)]
    assert 60.0 < lasts(dribble, 60.0, 240.0) < 60.1


def test_without_a_rate_a_byte_a_minute_is_enough() -> None:
    assert lasts([(50.0 * n, 1) for n in range(1, 100)], 60.0, 0.0) == 99 * 50.0 + 60.0


@pytest.mark.parametrize("every", [0.1, 5.0, 50.0])
def test_whoever_keeps_the_rate_may_take_forever(every: float) -> None:
    steady = [(every * n, round(240 * every)) for n in range(1, 1000)]
    assert lasts(steady, 60.0, 240.0) == pytest.approx(999 * every + 60.0)


def test_what_was_quick_does_not_pay_for_a_long_dribble() -> None:
    assert lasts([(1.0, 1 << 30)], 60.0, 240.0) == 61.0


def test_half_the_rate_lasts_two_pauses() -> None:
    assert lasts([(n, 120) for n in range(1, 1000)], 60.0, 240.0) == pytest.approx(120.0, abs=1.0)


def test_nothing_moved_is_nothing_earned() -> None:
    assert lasts([(30.0, 0), (40.0, -5)], 60.0, 0.0) == 60.0


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_what_the_client_has_taken_is_less_than_what_the_kernel_has(family: int) -> None:
    ours, client = _pair(family)
    delivered = DeliveredBytes(ours)
    ours.setblocking(False)
    given = 0
    try:
        while True:
            given += ours.send(b"x" * 65536)
    except BlockingIOError:
        delivered.add_sent(given)
    assert unsent(ours) > 0
    before = delivered.new()
    left = given
    while left:
        left -= len(client.recv(left))
    assert delivered.new() > 0
    assert before + unsent(ours) <= given
    ours.close()
    client.close()


def _pair(family: int) -> tuple[socket.socket, socket.socket]:
    if family == socket.AF_UNIX:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    return ours, client
