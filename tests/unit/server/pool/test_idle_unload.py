"""When an idle application is unloaded, and when it is loaded again."""

from __future__ import annotations

from appsrv.server.pool.idle_unload import IdleUnload


def test_it_is_unloaded_when_it_was_idle_for_long_enough() -> None:
    unload = IdleUnload(10.0)
    assert not unload.should_unload(1.0, idle=True)
    assert not unload.should_unload(10.9, idle=True)
    assert unload.should_unload(11.0, idle=True)
    assert not unload.should_unload(30.0, idle=True), "it is unloaded already"


def test_a_request_begins_the_time_anew() -> None:
    unload = IdleUnload(10.0)
    unload.should_unload(1.0, idle=True)
    assert not unload.should_unload(11.0, idle=False)
    assert not unload.should_unload(12.0, idle=True)
    assert unload.should_unload(22.0, idle=True)


def test_a_request_loads_it_once() -> None:
    unload = IdleUnload(10.0, unloaded=True)
    assert not unload.should_load(0)
    assert unload.should_load(1)
    assert not unload.should_load(1)


def test_after_a_load_the_whole_time_has_to_pass_again() -> None:
    unload = IdleUnload(10.0)
    unload.should_unload(1.0, idle=True)
    unload.loaded()
    assert not unload.should_unload(11.0, idle=True)
    assert unload.should_unload(21.0, idle=True)


def test_without_a_time_it_is_never_unloaded() -> None:
    unload = IdleUnload(0.0)
    assert not unload.should_unload(1.0, idle=True)
    assert not unload.should_unload(1e9, idle=True)
