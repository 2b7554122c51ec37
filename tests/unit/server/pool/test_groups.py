"""groups.py: what the watchdog answers to an application that has been dropped, and added anew, in the meantime."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import gevent
import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.http.syntax import Limits
from appsrv.ipc import channel as channels
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel
from appsrv.ipc.message_format import Message
from appsrv.server.frontend.frontend import FrontEnd
from appsrv.server.frontend.lanes import Timeouts
from appsrv.server.pool.groups import Groups, slots_for
from appsrv.server.pool.manager import Manager
from appsrv.server.pool.pool import Pool, PoolLimits, WorkerState
from appsrv.settings.table import Settings

NAME = "/apps/shop"
# No process has it (proc(5)).
NOBODY = 1 << 22


class World:
    """A server that has an application, and the watchdog's part."""

    def __init__(self, settings: Settings) -> None:
        self.told: list[Message] = []
        frontend = FrontEnd(Limits(), Timeouts(1.0, 1.0, 1.0), 5.0)
        of_all = Settings(apps_directory="/apps")
        self.groups = Groups(
            of_all, frontend, self.told.append, lambda _model, _pid: [], now=time.monotonic, development=False
        )
        self.groups.add_all([], {})
        self.groups.boot([])
        self.group = AppGroup(AppSpec(NAME, "app"), replace(settings, base_uri="/shop"), NAME)

    def asked(self) -> list[messages.StartPreloader]:
        """What the watchdog has been asked for, once."""
        asked = [msg for msg in self.told if isinstance(msg, messages.StartPreloader)]
        self.told.clear()
        return asked

    def answer(self, order: messages.StartPreloader, pid: int) -> Channel:
        """Say that it has been started; the preloader's end of its channel."""
        ours, theirs = channels.pair()
        started = messages.PreloaderStarted(NAME, order.generation, order.serial, pid)
        self.groups.preloader_started(started, ours.detach())
        theirs.setblocking(False)
        return Channel(theirs)

    def refuse(self, order: messages.StartPreloader) -> None:
        """Say that it could not be started."""
        refused = messages.PreloaderNotStarted(NAME, order.generation, order.serial, "no memory")
        self.groups.preloader_not_started(refused)

    def ended(self, pid: int, status: int = 0) -> None:
        """Say that a process has ended."""
        self.groups.process_exited(pid, status)

    def drop_and_add(self) -> Manager:
        """Its settings have been changed."""
        self.groups.drop(NAME)
        changed = self.groups.add(replace(self.group, settings=replace(self.group.settings, max_requests=7)))
        gevent.sleep(0)
        return changed

    def until(self, question: Callable[[], object], what: str) -> None:
        """Let the event loop run until the answer is true."""
        deadline = time.monotonic() + 5
        while not question():
            assert time.monotonic() < deadline, what
            gevent.sleep(0.01)


def heard(channel: Channel) -> list[str]:
    """The names of what a preloader has been told."""
    names = []
    for msg, fds in channel.waiting():
        channels.close_all(fds)
        names.append(type(msg).__name__)
    channel.close()
    return names


@pytest.fixture(params=["smart", "direct"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append((pid, number)))
    made = World(Settings(spawn_method=request.param))
    made.groups.add(made.group)
    yield made
    assert {pid for pid, _ in killed} <= {NOBODY, NOBODY + 1}
    for name in list(made.groups):
        made.groups.drop(name)
    for order in made.asked():
        made.refuse(order)
    for pid in (NOBODY, NOBODY + 1):
        made.ended(pid, signal.SIGTERM)
    made.until(lambda: not made.groups.all(), "all have gone")


def test_a_process_of_the_settings_before_is_not_the_new_ones(world: World) -> None:
    (first,) = world.asked()
    changed = world.drop_and_add()
    (second,) = world.asked()
    old = world.answer(first, NOBODY)
    assert not list(changed.preloaders)
    new = world.answer(second, NOBODY + 1)
    assert [handle.pid for handle in changed.preloaders] == [NOBODY + 1]
    assert heard(old)[0] == "Attach"
    assert "Quit" not in heard(new)
    world.ended(NOBODY, signal.SIGTERM)
    world.until(lambda: world.groups.all() == [changed], "nothing is left of the one before")
    assert [worker.pid for worker in changed.workers.values()] == ([NOBODY + 1] if second.serial else [])


def test_nor_is_the_refusal_of_one(world: World) -> None:
    (first,) = world.asked()
    changed = world.drop_and_add()
    (second,) = world.asked()
    world.refuse(first)
    assert changed.failure is None
    world.until(lambda: world.groups.all() == [changed], "nothing is left of the one before")
    heard(world.answer(second, NOBODY))


def test_one_that_comes_after_the_application_has_gone_leaves(world: World) -> None:
    (first,) = world.asked()
    world.groups.drop(NAME)
    said = heard(world.answer(first, NOBODY))
    assert first.serial or said[-1] == "Quit"
    world.ended(NOBODY, signal.SIGTERM)
    world.until(lambda: not world.groups.all(), "nothing is left")
    assert messages.DropGroup(NAME) in world.told


def all_ready(pool: Pool) -> int:
    """Let all that boot become ready, and none of those that retire end; how many processes there are then."""
    while booting := [serial for serial, worker in pool.workers.items() if worker.state is WorkerState.BOOTING]:
        pool.ready(booting[0], 0.0)
    return len(pool.workers)


@pytest.mark.parametrize(("size", "restarts"), [(1, 7), (6, 5)])
@pytest.mark.parametrize("parallel", [1, 100])
def test_the_workers_of_several_restarts_have_slots_at_a_time(size: int, restarts: int, parallel: int) -> None:
    pool = Pool(PoolLimits(max_pool_size=size, min_instances=size))
    pool.loaded(1, 0.0)
    processes = [all_ready(pool)]
    for generation in range(2, restarts + 3):
        pool.roll(generation, 0.0, parallel)
        processes.append(all_ready(pool))
    assert processes[-2] <= slots_for(Settings(max_pool_size=size)) < processes[-1]
