"""Restarts that are asked for while one runs."""

from __future__ import annotations

import gevent

from appsrv.server.pool.handles import RestartOutcome
from appsrv.server.pool.restarts import Restarts


def test_all_who_ask_while_one_runs_get_one_more() -> None:
    begun: list[int] = []
    restarts = Restarts(lambda: begun.append(restarts.parallel))
    asked = [gevent.spawn(restarts.ask, parallel) for parallel in (1, 2, 3, 4)]
    gevent.sleep(0)
    assert begun == [1]
    restarts.over(RestartOutcome(True, 2))
    gevent.sleep(0)
    gevent.sleep(0)
    assert begun == [1, 4]
    restarts.over(RestartOutcome(False, 2, "broken"))
    gevent.joinall(asked, timeout=5, raise_error=True)
    assert [greenlet.value == RestartOutcome(True, 2) for greenlet in asked] == [True, False, False, False]
    assert begun == [1, 4]
    assert not restarts.running
    assert restarts.resisting is not None


def test_one_that_asks_just_after_the_end_gets_one_of_its_own() -> None:
    begun: list[int] = []
    restarts = Restarts(lambda: begun.append(restarts.parallel))
    first, waiting = gevent.spawn(restarts.ask, 1), gevent.spawn(restarts.ask, 2)
    gevent.sleep(0)
    restarts.over(RestartOutcome(True, 2))
    late = gevent.spawn(restarts.ask, 3)
    gevent.sleep(0)
    gevent.sleep(0)
    for generation in (3, 4):
        restarts.over(RestartOutcome(True, generation))
        gevent.sleep(0)
        gevent.sleep(0)
    gevent.joinall([first, waiting, late], timeout=5, raise_error=True)
    assert [greenlet.value.generation for greenlet in (first, waiting, late) if greenlet.value] == [2, 3, 4]


def test_when_there_are_no_more_all_are_told() -> None:
    restarts = Restarts(lambda: None)
    asked = [gevent.spawn(restarts.ask, 1) for _ in range(2)]
    gevent.sleep(0)
    gone = RestartOutcome(False, 1, "its application is not served any more")
    restarts.end(gone)
    asked.append(gevent.spawn(restarts.ask, 1))
    gevent.joinall(asked, timeout=5, raise_error=True)
    assert [greenlet.value for greenlet in asked] == [gone, gone, gone]
    assert not restarts.running
