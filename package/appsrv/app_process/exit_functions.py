"""Exit functions at a fork: a function runs only in the process that has registered it.

A worker inherits the `atexit` functions that the application has registered at import, and the finalizers
(`weakref.finalize`) of objects such as a `tempfile.TemporaryDirectory`. The first worker that ends would remove files
that the others use. So these functions run once, in the preloader, after its last worker has ended. Functions that a
worker registers run in that worker. Knows no worker.
"""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Iterator
from typing import Any

# (module, function) of exit functions that each process needs: they close its own state and remove nothing that other
# processes use. The last one registered runs first.
_OF_EACH_PROCESS = (
    ("logging", "shutdown"),
    ("multiprocessing.util", "_exit_function"),
    ("sentry_sdk", "flush"),
)


def reset_in_child() -> None:
    """In a new child: have this process run none of the exit functions that were registered before the fork."""
    atexit._clear()
    _forget_children()
    for name, function in _OF_EACH_PROCESS:
        found = getattr(sys.modules.get(name), function, None)
        if callable(found):
            atexit.register(found)
    _keep_finalizers()


def _keep_finalizers() -> None:
    """Do not call the present finalizers at the end of this process, but call those that are registered from now on.

    `_exitfunc` has to run for both: afterwards no finalizer is called any more, also not when Python clears the modules
    and the objects of the finalizers are deleted.
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
    """Forget the processes that `multiprocessing` has started: they belong to the parent.

    Its exit function would terminate those of them that are daemons.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process._children = set()
