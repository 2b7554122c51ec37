"""When a generation is begun whose processes before it still have to end."""

from __future__ import annotations

from typing import Any

from appsrv.server.pool.succession import LET_GO_SECONDS, Succession


class Timer:
    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments, self.killed = function, arguments, False

    def kill(self, *, block: bool) -> None:
        self.killed = True

    def fire(self) -> None:
        assert not self.killed
        self.function(*self.arguments)


class Followed:
    """A succession whose processes are the generations in `alive`."""

    def __init__(self, *alive: int) -> None:
        self.alive = set(alive)
        self.begun: list[int] = []
        self.again = 0
        self.timers: list[Timer] = []
        self.succession = Succession(self.others, self.begun.append, self.load_again, later=self.later)

    def others(self, generation: int) -> bool:
        return any(other < generation for other in self.alive)

    def load_again(self) -> None:
        self.again += 1

    def later(self, _seconds: float, function: Any, *arguments: Any) -> Timer:
        self.timers.append(Timer(function, arguments))
        return self.timers[-1]

    def end(self, *generations: int) -> None:
        self.alive -= set(generations)
        self.succession.ended()


def test_it_begins_when_the_last_of_the_others_has_ended() -> None:
    followed = Followed(1, 2)
    followed.succession.start(3, LET_GO_SECONDS)
    followed.end(2)
    assert followed.begun == []
    followed.end(1)
    followed.end()
    assert followed.begun == [3]
    assert followed.timers[0].killed
    alone = Followed()
    alone.succession.start(2, LET_GO_SECONDS)
    assert (alone.begun, alone.timers) == ([2], [])


def test_only_the_last_one_asked_for_is_begun() -> None:
    followed = Followed(1)
    followed.succession.start(2, LET_GO_SECONDS)
    followed.succession.start(3, LET_GO_SECONDS)
    followed.end(1)
    assert followed.begun == [3]
    stopped = Followed(1)
    stopped.succession.start(2, LET_GO_SECONDS)
    stopped.succession.stop()
    stopped.end(1)
    assert stopped.begun == []


def test_after_the_time_it_begins_beside_the_others_and_again_if_that_failed() -> None:
    followed = Followed(1)
    followed.succession.start(2, LET_GO_SECONDS)
    followed.timers[0].fire()
    assert followed.begun == [2]
    followed.succession.failed(2)
    assert followed.again == 0, "what may be in the way is still there"
    followed.end(1)
    followed.end()
    assert followed.again == 1


def test_what_fails_by_itself_is_not_tried_again() -> None:
    followed = Followed(1)
    followed.succession.start(2, LET_GO_SECONDS)
    followed.end(1)
    followed.succession.failed(2)
    followed.end()
    beside = Followed(1)
    beside.succession.start(2, LET_GO_SECONDS)
    beside.timers[0].fire()
    beside.end(1)
    assert (followed.again, beside.again) == (0, 0)


def test_a_failure_that_is_told_after_the_end_of_the_others_is_tried_again() -> None:
    followed = Followed(1)
    followed.succession.start(2, LET_GO_SECONDS)
    followed.timers[0].fire()
    followed.end(1)
    followed.succession.failed(2)
    assert followed.again == 1, "they were there while it was loaded"


def test_with_the_time_over_the_others_are_killed() -> None:
    killed: list[int] = []
    followed = Followed(1)
    followed.succession.start(2, 30.0, killed.append)
    followed.timers[0].fire()
    assert (killed, followed.begun) == ([2], [])
    followed.end(1)
    assert followed.begun == [2]
    undying = Followed(1)
    undying.succession.start(2, 30.0, killed.append)
    undying.timers[0].fire()
    undying.timers[1].fire()
    assert undying.begun == [2]
