"""Records of an application group: the preloader and the generation that a new server continues with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.ipc import channel as channels
from appsrv.ipc.channel import Channel
from appsrv.logs.server_log import ServerLog
from appsrv.settings.table import Settings
from appsrv.watchdog.child_records import GroupRecord, PreloaderRecord

AddPreloader = Callable[..., PreloaderRecord]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[GroupRecord]:
    log = ServerLog(str(tmp_path / "log"), "info", None)
    yield GroupRecord(AppGroup.alone(AppSpec(str(tmp_path), "app"), Settings()), None, log)
    log.close()


@pytest.fixture
def add(group: GroupRecord) -> Iterator[AddPreloader]:
    made: list[PreloaderRecord] = []

    def add(generation: int, serial: int = 0) -> PreloaderRecord:
        ours, server_end = channels.pair()
        made.append(PreloaderRecord(len(made) + 1, Channel(ours), group, generation, serial, server_end))
        group.add(made[-1])
        return made[-1]

    yield add
    for preloader in made:
        preloader.close()


def test_new_server_continues_with_the_serving_generation(group: GroupRecord, add: AddPreloader) -> None:
    before, serving, after = add(1), add(2), add(3)
    group.serving = 2
    assert group.preloader_for_new_server() is serving
    assert list(group.obsolete(serving)) == [before, after]
    assert (group.generation_for_new_server(serving), group.last_generation) == (2, 3)
    # A worker that was spawned directly belongs to the server that has died.
    serving.close_server_end()
    assert group.preloader_for_new_server() is before


def test_new_server_without_a_preloader(group: GroupRecord, add: AddPreloader) -> None:
    assert group.preloader_for_new_server() is None
    assert group.generation_for_new_server(None) == 0
    add(1)
    group.preloaders.clear()
    assert group.generation_for_new_server(None) == 1, "no generation has served: the last one is tried"
    add(2)
    group.preloaders.clear()
    group.serving = 1
    assert group.generation_for_new_server(None) == 1


def test_early_preloader_is_not_the_dead_servers(group: GroupRecord, add: AddPreloader) -> None:
    group.early = add(1)
    assert group.preloader_for_new_server() is None
    assert list(group.obsolete(None)) == []
    assert group.generation_for_new_server(None) == 0


@pytest.mark.parametrize(("generation", "serial", "fits"), [(1, 0, True), (2, 0, False), (1, 1, False)])
def test_early_preloader_is_taken_once(
    group: GroupRecord, add: AddPreloader, generation: int, serial: int, fits: bool
) -> None:
    early = group.early = add(1)
    assert group.take_early(generation, serial) is (early if fits else None)
    assert group.early is None


def test_closing_twice_is_no_error(add: AddPreloader) -> None:
    preloader = add(1)
    assert preloader.server_end is not None
    fd = preloader.server_end.fileno()
    preloader.close()
    preloader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
