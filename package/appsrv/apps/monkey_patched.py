"""Detects that an application has monkey-patched the threads of the standard library, and adapts its settings.

With `gevent.monkey.patch_all()` an application has chosen its concurrency model: its threads are greenlets of the main
thread's event loop, and its locks wait in that loop. Real threads that take such locks would block the loop, so the
worker serves requests in greenlets. `eventlet.monkey_patch()` has the same effect, but appsrv cannot run eventlet's
loop, so such a worker serves one request at a time. This module knows the loaded modules, not the serving of requests.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

from appsrv.settings.table import Settings

Patcher = Literal["gevent", "eventlet"]


def patched_by(modules: Mapping[str, ModuleType] | None = None) -> Patcher | None:
    """The library that has replaced the threads of this process by greenlets; None if there is none."""
    found = sys.modules if modules is None else modules
    monkey: Any = found.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return "gevent"
    patcher: Any = found.get("eventlet.patcher")
    return "eventlet" if patcher is not None and patcher.already_patched.get("thread") else None


def settings_for(settings: Settings, patcher: Patcher | None, *, development: bool) -> Settings:
    """The settings for an application patched by `patcher`; the given ones if nothing has to change.

    The concurrency model becomes `gevent`, or `process` for eventlet. The number of requests that a worker serves at a
    time stays that of `threads`. In a development server it is `max_greenlets`, because the framework's own server has
    no limit.
    """
    if patcher is None or settings.model == "gevent":
        return settings
    if patcher == "eventlet":
        single = dataclasses.replace(settings, concurrency_model="process", threads=1)
        return single if settings.threads > 1 else settings
    most = settings.max_greenlets if development else settings.threads
    return dataclasses.replace(settings, concurrency_model="gevent", max_greenlets=most)


def cells_for(settings: Settings, *, development: bool) -> int:
    """The largest number of requests that a worker may serve at a time.

    The scoreboard is made before the application is imported, and only then it is known whether it is monkey-patched.
    """
    return max(settings.concurrency, settings.max_greenlets) if development else settings.concurrency


def notice(settings: Settings) -> str:
    """The line in the server log about a monkey-patched application."""
    if settings.model == "process":
        return (
            "the application has monkey-patched the standard library with eventlet: each worker serves one request at "
            "a time. For more set max_pool_size, or use gevent in the place of eventlet"
        )
    most = settings.max_greenlets
    return (
        f"the application has monkey-patched the standard library with gevent: each worker serves it in greenlets, "
        f"{most} at a time as threads says. For more set concurrency_model = gevent and max_greenlets"
    )
