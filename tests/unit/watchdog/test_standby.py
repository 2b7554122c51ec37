"""When the standby preloader is started, and that each is used once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appsrv.ipc import channel as channels
from appsrv.ipc.channel import Channel, ChannelClosed
from appsrv.ipc.messages import Prepare
from appsrv.watchdog.standby import START_AFTER_LOAD_SECONDS, START_AFTER_PRELOADER_SECONDS, Launched, StandbyPreloader

ORDER = Prepare(["framework", "framework.views"], ["SETTINGS"])


class Processes:
    """What would start processes; `theirs` are the ends of the channels that they would have."""

    def __init__(self) -> None:
        self.now = 100.0
        self.theirs: list[Channel] = []
        self.servers: list[Channel] = []
        self.killed: list[int] = []
        self.full = False
        self.born_dead = False
        self.standby = StandbyPreloader(self.launch, self.killed.append, lambda: self.now)

    def launch(self) -> Launched:
        if self.full:
            raise OSError("no room for another process")
        ours, theirs = channels.pair()
        server, preloader = channels.pair()
        self.theirs.append(Channel(theirs))
        if self.born_dead:
            theirs.close()
        self.servers.append(Channel(preloader))
        return Launched(1000 + len(self.theirs), Channel(ours), server)

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.standby.start_if_due()

    def close(self) -> None:
        self.standby.close()
        for channel in (*self.theirs, *self.servers):
            channel.close()


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


def loaded(processes: Processes) -> StandbyPreloader:
    """One stands by."""
    processes.standby.on_loaded(ORDER)
    processes.after(START_AFTER_LOAD_SECONDS)
    return processes.standby


def test_nobody_stands_by_before_an_application_was_loaded(processes: Processes) -> None:
    processes.standby.on_started()
    processes.after(1000)
    assert processes.theirs == []
    assert processes.standby.take() is None


def test_it_is_started_soon_after_and_told_what_to_import(processes: Processes) -> None:
    processes.standby.on_loaded(ORDER)
    assert processes.standby.due == processes.now + START_AFTER_LOAD_SECONDS
    processes.after(START_AFTER_LOAD_SECONDS / 2)
    assert processes.theirs == []
    processes.after(START_AFTER_LOAD_SECONDS / 2)
    assert processes.theirs[0].receive() == (ORDER, [])


def test_one_at_a_time(processes: Processes) -> None:
    loaded(processes)
    loaded(processes)
    assert len(processes.theirs) == 1


def test_each_is_used_once(processes: Processes) -> None:
    standby = loaded(processes)
    taken = standby.take()
    assert taken is not None
    assert taken.pid == 1001
    assert standby.take() is None
    taken.close()


def test_the_next_one_comes_even_if_the_code_is_broken(processes: Processes) -> None:
    standby = loaded(processes)
    taken = standby.take()
    standby.on_started()
    processes.after(START_AFTER_PRELOADER_SECONDS)
    following = standby.take()
    assert taken is not None
    assert following is not None
    assert following.pid == 1002
    for launched in (taken, following):
        launched.close()


def test_one_that_has_gone_is_not_used(processes: Processes) -> None:
    standby = loaded(processes)
    processes.theirs[0].close()
    assert standby.take() is None


def test_one_that_ended_is_not_started_again_at_once(processes: Processes) -> None:
    standby = loaded(processes)
    assert not standby.exited(1)
    assert standby.exited(1001)
    assert processes.killed == []
    processes.after(1000)
    assert len(processes.theirs) == 1
    assert standby.take() is None


def test_without_room_there_is_none(processes: Processes) -> None:
    processes.full = True
    standby = loaded(processes)
    assert standby.take() is None
    assert standby.due == float("inf")
    processes.full = False
    taken = loaded(processes).take()
    assert taken is not None
    taken.close()


def test_one_that_cannot_be_told_what_to_import_is_not_used(processes: Processes) -> None:
    processes.born_dead = True
    standby = loaded(processes)
    assert processes.killed == [1001]
    assert standby.take() is None


def test_an_application_that_must_not_have_one_has_none_any_more(processes: Processes) -> None:
    standby = loaded(processes)
    standby.on_loaded(Prepare([]))
    assert processes.killed == [1001]
    standby.on_started()
    processes.after(1000)
    assert len(processes.theirs) == 1


def test_closing_ends_it_and_starts_no_other(processes: Processes) -> None:
    standby = loaded(processes)
    standby.close()
    assert processes.killed == [1001]
    assert standby.ending == {1001}, "the watchdog waits for its end"
    assert standby.exited(1001)
    assert not standby.ending
    assert not standby.exited(1001)
    assert processes.theirs[0].receive() == (ORDER, [])
    with pytest.raises(ChannelClosed):
        processes.theirs[0].receive()
    with pytest.raises(ChannelClosed):
        processes.servers[0].receive()
    standby.on_loaded(ORDER)
    standby.on_started()
    processes.after(1000)
    assert len(processes.theirs) == 1
