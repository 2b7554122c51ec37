"""Clients that are slow, a crowd of them in one process of their own, and ordinary ones whose requests are timed.

Knows a port, no server. A crowd goes on until it is told to stop, and then says what has become of its clients.
"""

from __future__ import annotations

import heapq
import math
import multiprocessing
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Protocol

PAUSE = 0.5
BIG = 20_000_000
CONNECT_SECONDS = 10.0
TELLS_EVERY = 1.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_BIG = b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# A head in bytes that never ends in time (408), one in pieces that does, and a body above the least rate.
ENDLESS = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"x" * 100
SLOW_HEAD = b"GET /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SLOW_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000
DRIBBLES = ((ENDLESS, 1, b"408"), (SLOW_HEAD, 5, b"200"), (SLOW_BODY, 200, b"200"))


class SlowClient(Protocol):
    """One of a crowd: `step` is its turn, `finish` the end; both tell what has happened, if anything.

    `arrived`: the server has its request, or a part of it, and it is slow from now on.
    """

    arrived: bool

    def step(self) -> str | None:
        """Send or read a little."""

    def finish(self) -> str | None:
        """No more turns."""


class Dribbler:
    """Sends a request in pieces, again and again; what it is answered has to be what the rules say."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._data, self._size, self._expected = DRIBBLES[number % len(DRIBBLES)]
        self._sock: socket.socket | None = None
        self._at = 0
        self.arrived = False

    def step(self) -> str | None:
        if self._sock is None:
            self._sock, self._at = connect(self._port), 0
        self._sock.setblocking(False)
        try:
            answer = self._sock.recv(65536)
        except BlockingIOError:
            self._send(self._sock)
            return None
        except OSError as error:
            return self._over(f"unexpected: {error.strerror}")
        status = answer[9:12]
        return self._over(status.decode() if status == self._expected else f"unexpected: {answer[:40]!r}")

    def _send(self, sock: socket.socket) -> None:
        self.arrived = True
        piece = self._data[self._at : self._at + self._size]
        self._at += len(piece)
        if piece:
            sock.send(piece)

    def _over(self, what: str) -> str:
        assert self._sock is not None
        self._sock.close()
        self._sock = None
        return what

    def finish(self) -> str | None:
        return self._over("unfinished") if self._sock is not None else None


class Reader:
    """Reads 20 MB, 64 KiB at a turn; in the end all of the rest, which has to be there."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._sock: socket.socket | None = None
        self._got = 0
        self._head = b""
        self.arrived = False

    def step(self) -> str | None:
        if self._sock is None:
            self._sock = connect(self._port, receive=128 * 1024)
            self._sock.sendall(GET_BIG)
        else:
            self._read()
        return None

    def _read(self) -> bool:
        assert self._sock is not None
        data = self._sock.recv(65536)
        if b"\r\n\r\n" not in self._head:
            self._head, _, data = (self._head + data).partition(b"\r\n\r\n")
            self._head += b"\r\n\r\n"
            self.arrived = True
        self._got += len(data)
        return bool(data)

    def finish(self) -> str | None:
        if self._sock is None:
            return None
        try:
            while self._read():
                pass
        except OSError as error:
            return f"unexpected: {error}"
        finally:
            self._sock.close()
        return "whole" if self._got == BIG else f"unexpected: {self._got} bytes"


# How many of a kind come in a second. To make 20 MB and keep them costs a worker tens of milliseconds, for whomever.
ARRIVALS: dict[type[Dribbler | Reader], float] = {Dribbler: 500.0, Reader: 5.0}


def connect(port: int, receive: int = 0) -> socket.socket:
    """A connection; `receive` bytes may be under way to this side (0: as the system likes)."""
    made = socket.socket()
    if receive:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    made.settimeout(CONNECT_SECONDS)
    made.connect(("127.0.0.1", port))
    return made


@dataclass
class Crowd:
    """What has become of it: so far when it is asked with `so_far`, all of it once it has stopped."""

    said: Connection
    happened: Counter[str] = field(default_factory=Counter)
    heard: bool = False

    def arrived(self) -> bool:
        """Whether all of it has been there."""
        self.so_far()
        return self.heard

    def so_far(self) -> Counter[str]:
        """What has happened until a second ago, or nothing before all have arrived."""
        while self.said.poll():
            self.happened.update(self.said.recv())
            self.heard = True
        return self.happened

    @property
    def unexpected(self) -> int:
        return sum(count for what, count in self.happened.items() if what.startswith("unexpected"))


@contextmanager
def crowd(kind: type[Dribbler | Reader], port: int, count: int, pause: float = PAUSE) -> Iterator[Crowd]:
    """So many slow clients in a process of their own, which arrive one after the other, `ARRIVALS` a second.

    `pause`: seconds between two turns of a client.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    stop = context.Event()
    child = context.Process(target=_run_crowd, args=(kind, port, count, pause, stop, theirs.send), daemon=True)
    child.start()
    theirs.close()
    result = Crowd(ours)
    try:
        yield result
        stop.set()
        for said in iter(ours.recv, None):
            result.happened.update(said)
    finally:
        stop.set()
        child.join(60.0)
        ours.close()


def _run_crowd(
    kind: type[Dribbler | Reader], port: int, count: int, pause: float, stop: Event, tell: Callable[[object], None]
) -> None:
    happened: Counter[str] = Counter()
    clients = [kind(port, number) for number in range(count)]
    now = time.monotonic()
    turns = [(now + number / ARRIVALS[kind], number) for number in range(count)]
    tell_due = math.inf
    while not stop.is_set():
        due, number = turns[0]
        time.sleep(max(0.0, min(0.05, due - time.monotonic())))
        if due > time.monotonic():
            continue
        _note(happened, clients[number], "step")
        heapq.heapreplace(turns, (time.monotonic() + pause, number))
        if tell_due == math.inf and all(client.arrived for client in clients):
            tell_due = 0.0
        if time.monotonic() >= tell_due:
            tell_due = time.monotonic() + TELLS_EVERY
            tell(happened)
            happened.clear()
    for client in clients:
        _note(happened, client, "finish")
    tell(happened)
    tell(None)


def _note(happened: Counter[str], client: SlowClient, what: str) -> None:
    try:
        outcome = client.step() if what == "step" else client.finish()
    except OSError as error:
        outcome = f"unexpected: {error}"
    if outcome is not None:
        happened[outcome] += 1


# -- ordinary requests ----------------------------------------------------------------------------------------


@dataclass
class Ordinary:
    """Milliseconds from when each request was due to the end of its answer, and how many failed."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def add(self, more: Ordinary) -> None:
        self.latencies += more.latencies
        self.failed += more.failed


def ordinary(port: int, seconds: float, rate: float = 50.0) -> Ordinary:
    """So many requests a second, by turns on a kept connection and on a new one."""
    result = Ordinary()
    kept = connect(port)
    started = time.monotonic()
    for number in range(round(seconds * rate)):
        due = started + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            if number % 2:
                _ask(kept)
            else:
                with connect(port) as fresh:
                    _ask(fresh)
            result.latencies.append((time.monotonic() - due) * 1000)
        except OSError:
            result.failed += 1
            kept.close()
            kept = connect(port)
    kept.close()
    return result


def _ask(sock: socket.socket) -> None:
    sock.sendall(GET)
    if not sock.recv(65536).startswith(b"HTTP/1.1 200 "):
        raise ConnectionError("another answer than 200")
