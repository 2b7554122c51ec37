"""Hooks: functions of the application that run around the forks of its workers.

    import appsrv.hooks

    @appsrv.hooks.after_fork
    def connect() -> None: ...

`before_fork` functions run once, in the preloader, after the application is imported and before the first worker is
forked: there the application closes connections that two processes must not share. `after_fork` functions run in each
new worker, `worker_exit` functions in each worker before it ends, unless it is killed. Functions that the application
registers with `atexit` at import run in the preloader only. With `spawn_method` direct no worker is forked, and only
`after_fork` and `worker_exit` functions run. appsrv closes Django's database connections before a fork by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from appsrv.app_process import forked_child, own_lines

Hook = TypeVar("Hook", bound=Callable[[], object])

_before_fork: list[Callable[[], object]] = []
_after_fork: list[Callable[[], object]] = []
_worker_exit: list[Callable[[], object]] = []


def before_fork(function: Hook) -> Hook:
    """Register a function that the preloader calls before it forks the first worker. A decorator."""
    _before_fork.append(function)
    return function


def after_fork(function: Hook) -> Hook:
    """Register a function that each worker calls before its first request. A decorator."""
    _after_fork.append(function)
    return function


def worker_exit(function: Hook) -> Hook:
    """Register a function that each worker calls after its last request. A decorator."""
    _worker_exit.append(function)
    return function


def run_before_fork() -> None:
    """Called by the preloader before its first fork."""
    _close_django_connections()
    _run(_before_fork)


def run_after_fork() -> None:
    """Called by a new worker."""
    _run(_after_fork)


def run_worker_exit() -> None:
    """Called by a worker after its last request."""
    _run(_worker_exit)


def _run(functions: list[Callable[[], object]]) -> None:
    for function in functions:
        try:
            with forked_child.ending_children():
                function()
        except Exception as error:
            # An exception in one function is logged; the other functions and the worker continue.
            own_lines.write_traceback(error)


def _close_django_connections() -> None:
    # Two processes that share a database connection would read each other's results.
    database = sys.modules.get("django.db")
    connections = getattr(database, "connections", None)
    if connections is not None:
        connections.close_all()
