"""Exit functions at a fork: those that were registered before it stay with the process that registered them.

A worker inherits what the application has registered at import with `atexit`, and the finalizers (`weakref.finalize`)
of objects such as a `tempfile.TemporaryDirectory`. The first worker that ends would remove what the others use. They
run in the preloader, once, when its last worker has gone. What a worker registers itself runs in that worker. Knows no
worker.
"""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Iterator
from typing import Any

# (module, function) of those that end the state of one process and remove nothing that others use; last in, first out.
_OF_EACH_PROCESS = (
    ("logging", "shutdown"),
    ("multiprocessing.util", "_exit_function"),
    ("sentry_sdk", "flush"),
)


def leave_to_parent() -> None:
    """In a fresh fork: run none of the exit functions that there are already when this process ends."""
    atexit._clear()
    _forget_children()
    for name, function in _OF_EACH_PROCESS:
        found = getattr(sys.modules.get(name), function, None)
        if callable(found):
            atexit.register(found)
    _keep_finalizers()


def _keep_finalizers() -> None:
    """Let the finalizers that there are alone at the end of this process, and run those that are to come.

    `_exitfunc` has to run for both: after it no finalizer is called, also not when the modules are torn down.
    """
    finalize: Any = weakref.finalize
    for finalizer in _finalizers():
        finalizer.atexit = False
    atexit.register(finalize._exitfunc)
    finalize._registered_with_atexit = True


def _finalizers() -> Iterator[Any]:
    known: Any = weakref.finalize
    yield from list(known._registry)


def _forget_children() -> None:
    """The processes that `multiprocessing` has started are the parent's: it would end those that are daemons."""
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process._children = set()
