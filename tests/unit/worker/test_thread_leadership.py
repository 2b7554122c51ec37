"""thread_leadership.py: who serves when, with real threads and requests that last as long as the test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from appsrv.worker import thread_leadership as module
from appsrv.worker.thread_leadership import Leadership
from support.waiting import wait_for


class Requests:
    """A queue of requests of one byte each: `f`ast, `s`low (until `release`), `e`nd, `x` (a defect)."""

    def __init__(self, threads: int) -> None:
        self.ours, self.queue = socket.socketpair()
        self.queue.settimeout(0.02)
        self.leadership = Leadership(self.queue.fileno(), self.turn, 20)
        self.release = threading.Semaphore(0)
        self.served: list[tuple[str, int]] = []
        self.done = 0
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.run, args=(threads,))
        self.thread.start()

    def run(self, threads: int) -> None:
        try:
            self.leadership.run(threads)
        except RuntimeError as error:
            self.failure = error

    def turn(self, me: int) -> bool:
        """As `worker` does it."""
        with self.leadership.taking:
            try:
                kind = self.queue.recv(1).decode()
            except TimeoutError:
                return True
        self.leadership.busy()
        self.served.append((kind, me))
        if kind == "x":
            raise RuntimeError("a defect")
        if kind == "s":
            assert self.release.acquire(timeout=10)
        self.done += 1
        return kind != "e"

    def send(self, kinds: str) -> None:
        self.ours.send(kinds.encode())

    def of(self, kind: str) -> list[int]:
        """The threads that have taken requests of this kind."""
        return [me for served, me in self.served if served == kind]

    def over(self) -> bool:
        """Whether all threads have come to their end."""
        self.thread.join(0)
        return not self.thread.is_alive()

    def close(self) -> None:
        """Whatever happened: end all threads."""
        self.leadership.end()
        for _ in range(20):
            self.release.release()
        wait_for(self.over, "the end of the threads")
        self.ours.close()
        self.queue.close()


Start = Callable[[int], Requests]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start so many threads."""
    made: list[Requests] = []

    def start_threads(count: int) -> Requests:
        made.append(Requests(count))
        return made[-1]

    yield start_threads
    for requests in made:
        requests.close()


def test_slow_requests_get_threads_of_their_own(start: Start) -> None:
    requests = start(4)
    requests.send("ssss")
    wait_for(lambda: len(requests.of("s")) == 4, "four requests at once")
    assert sorted(requests.of("s")) == [0, 1, 2, 3]


def test_what_no_thread_is_free_for_waits(start: Start) -> None:
    requests = start(2)
    requests.send("sssf")
    wait_for(lambda: len(requests.of("s")) == 2, "two requests at once")
    requests.release.release()
    wait_for(lambda: len(requests.of("s")) == 3, "the third when the first is done")
    requests.release.release()
    wait_for(lambda: requests.of("f") != [], "the fast one")


def test_fast_requests_are_one_threads(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKE_OVER_SECONDS", 0.5)
    requests = start(4)
    for count in range(1, 100):
        requests.send("f")
        wait_for(lambda wanted=count: requests.done == wanted, "the answer")  # type: ignore[misc]
    assert set(requests.of("f")) == {0}
    monkeypatch.undo()


def test_fast_requests_go_on_beside_a_slow_one(start: Start) -> None:
    requests = start(2)
    requests.send("s")
    wait_for(lambda: len(requests.of("s")) == 1, "the slow one")
    requests.send("f" * 20)
    wait_for(lambda: len(requests.of("f")) == 20, "the fast ones")
    assert set(requests.of("f")) == {1}


def test_one_thread_needs_no_deputy(start: Start) -> None:
    requests = start(1)
    requests.send("ffe")
    wait_for(requests.over, "the end")
    assert requests.served == [("f", 0), ("f", 0), ("e", 0)]


@pytest.mark.parametrize("before", ["", "f", "s"])
def test_the_end_reaches_every_thread(start: Start, before: str) -> None:
    requests = start(3)
    requests.send(before + "e")
    wait_for(lambda: requests.of("e") != [], "the last request")
    for _ in requests.of("s"):
        assert not requests.over(), "what was begun is finished"
        requests.release.release()
    wait_for(requests.over, "the end")


def test_a_thread_that_dies_ends_the_worker(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever thread it is: nobody is left waiting for a leader that is no more."""
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    requests = start(2)
    requests.send("s")
    wait_for(lambda: len(requests.of("s")) == 1, "the slow one")
    requests.send("x")
    wait_for(lambda: requests.of("x") == [1], "the defect in the other thread")
    requests.release.release()
    wait_for(requests.over, "the end")
    assert len(died) == 1

    alone = start(2)
    alone.send("x")
    wait_for(alone.over, "the end")
    assert str(alone.failure) == "a defect"
