"""What an application may have done around the forks of its workers. Knows when, not what.

    import appsrv.hooks

    @appsrv.hooks.after_fork
    def connect() -> None: ...

`before_fork` functions run in the preloader, once, after the application is imported and before the first worker is
forked: close there what two processes must not share. `after_fork` functions run in each new worker, `worker_exit`
functions in each worker that ends in order. What is registered with `atexit` at import runs in the preloader alone.
With `spawn_method` direct nothing is forked: only the last two kinds run. Django's database connections are closed
without being asked.
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
    """Have `function` called in the preloader before it forks."""
    _before_fork.append(function)
    return function


def after_fork(function: Hook) -> Hook:
    """Have `function` called in each worker before its first request."""
    _after_fork.append(function)
    return function


def worker_exit(function: Hook) -> Hook:
    """Have `function` called in each worker after its last request."""
    _worker_exit.append(function)
    return function


def run_before_fork() -> None:
    """The preloader is about to fork."""
    _close_django_connections()
    _run(_before_fork)


def run_after_fork() -> None:
    """A worker begins."""
    _run(_after_fork)


def run_worker_exit() -> None:
    """A worker has served its last request."""
    _run(_worker_exit)


def _run(functions: list[Callable[[], object]]) -> None:
    for function in functions:
        try:
            with forked_child.kept_out():
                function()
        except Exception as error:
            # One that fails is reported, and keeps neither the others nor the worker from going on.
            own_lines.write_traceback(error)


def _close_django_connections() -> None:
    # Two processes on one database connection read each other's answers.
    database = sys.modules.get("django.db")
    connections = getattr(database, "connections", None)
    if connections is not None:
        connections.close_all()
