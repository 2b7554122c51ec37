"""Whether the application has made the threads of the standard library green, and what follows for its workers.

With `gevent.monkey.patch_all()` an application has chosen its concurrency model: its threads are greenlets of the event
loop of the main thread, and its locks wait in that loop. Threads of appsrv beside that would block the loop. With
`eventlet.monkey_patch()` it is the same, but appsrv has no loop for it: such a worker serves one request at a time.
Knows which modules are loaded, not how requests are served.
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
    """The library that has made greenlets of the threads of this process, if one has."""
    found = sys.modules if modules is None else modules
    monkey: Any = found.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return "gevent"
    patcher: Any = found.get("eventlet.patcher")
    return "eventlet" if patcher is not None and patcher.already_patched.get("thread") else None


def settings_for(settings: Settings, patcher: Patcher | None, *, development: bool) -> Settings:
    """The settings that such an application is served by: those it has, or the same with the concurrency model gevent.

    A worker serves as many requests at a time as the operator has asked for; as many as `max_greenlets` says in a
    development server, where the framework's own server knows no limit.
    """
    if patcher is None or settings.model == "gevent":
        return settings
    if patcher == "eventlet":
        single = dataclasses.replace(settings, concurrency_model="process", threads=1)
        return single if settings.threads > 1 else settings
    most = settings.max_greenlets if development else settings.threads
    return dataclasses.replace(settings, concurrency_model="gevent", max_greenlets=most)


def cells_for(settings: Settings, *, development: bool) -> int:
    """How many requests a worker may have to serve at a time: what its application does is not known before."""
    return max(settings.concurrency, settings.max_greenlets) if development else settings.concurrency


def note(settings: Settings) -> str:
    """What the operator is told of it."""
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
