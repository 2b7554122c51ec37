"""watchdog.py: what a process says that ends while somebody asks for it."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv import channel as channels
from appsrv import message
from appsrv.app_group import AppGroup
from appsrv.app_spec import AppSpec
from appsrv.channel import Channel, Outbox
from appsrv.collector import Collector
from appsrv.group_books import Child
from appsrv.log import ServerLog
from appsrv.settings import Settings
from appsrv.watchdog import Watchdog


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[Watchdog]:
    group = AppGroup.alone(AppSpec(str(tmp_path), "app:application"), Settings())
    made = Watchdog(Settings(), str(tmp_path), [group], {}, None)
    log = ServerLog(str(tmp_path / "log"), "info", None)
    made._output = Collector(made._selector, log)
    yield made
    made._selector.close()
    log.close()


def test_last_words_are_asked_for_while_a_preloader_has_ended_and_is_not_reaped(watchdog: Watchdog) -> None:
    ours, theirs = channels.pair()
    child = Child(os.getpid(), Channel(ours), 0.0)
    watchdog._preloaders[child.pid] = child
    watchdog._selector.register(ours, selectors.EVENT_READ, lambda: watchdog._from_preloader(child))
    theirs.close()
    watchdog._tell_last_words(999_999)
    watchdog._tell_last_words(999_998)
    assert not watchdog._selector.get_map()


def test_who_asks_for_a_worker_while_the_instance_stops_at_once_is_told_that_none_will_come(watchdog: Watchdog) -> None:
    """The server waits for the end of each worker that it has asked for."""
    ours, theirs = channels.pair()
    theirs.setblocking(False)
    server = Channel(theirs)
    watchdog._server = Child(os.getpid(), Channel(ours), 0.0)
    watchdog._to_server = Outbox(watchdog._server.channel)
    watchdog._stop(graceful=False)
    for serial in (0, 7):
        server.send(message.StartPreloader("shop", 2, serial))
        watchdog._from_server()
    assert [told for told, _ in server.waiting()] == [
        message.StopRequested(graceful=False), message.PreloaderNotStarted("shop", 2, 7, "")
    ]
    watchdog._server.channel.close()
    server.close()
