"""Children that the application forks from one of its processes: what they must not inherit, and how they end.

A view, or a module at import, may fork (`os.fork`, `multiprocessing`). The child belongs to the application alone: it
answers no request and accepts none, has the signal handlers that it would have without appsrv, and runs no exit
function of its parent. Where its code would return into appsrv, the child ends (`exit_child`). Each part of a process
registers with `on_fork` a function that releases the part's resources in a child. Knows forks, not workers.

A program that is started without Python's fork (`subprocess`, `os.posix_spawn`) does not run these functions. A
descriptor that it must not inherit needs close-on-exec; a signal must be handled instead of ignored (`own_signals`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from appsrv.app_process import exit_functions, own_lines, own_signals
from appsrv.errors import AppLoadError
from appsrv.system import own_frames, unpatched

IN_CHILD = False
"""Whether this process is such a child. It is read for each request, and a module variable is read fastest."""

_drop: list[Callable[[], object]] = []
_forks_itself: set[int] = set()
_masks: dict[int, set[int]] = {}
_watches = False


def watch() -> None:
    """Handle the children that are forked from this process, and from the processes that appsrv forks from it."""
    global _watches
    if not _watches:
        _watches = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def on_fork(drop: Callable[[], object]) -> None:
    """Have `drop` called once in each child. It must not block, and not write to anything that the parent shares."""
    _drop.append(drop)


def fork_own_process(fork: Callable[[], int]) -> int:
    """Fork a process of appsrv's own, such as a worker. It starts without registered functions and calls none of them.

    Returns the child's pid, 0 in the child. Raises OSError if fork(2) fails.
    """
    me = unpatched.get_ident()
    _forks_itself.add(me)
    try:
        pid = fork()
    finally:
        _forks_itself.discard(me)
    if pid == 0:
        _drop.clear()
    return pid


def title(name: str) -> str:
    """The title of such a child in ps(1)."""
    return f"appsrv child {name}"


@contextlib.contextmanager
def ending_children() -> Iterator[None]:
    """A context around application code. A child that was forked within it ends when it leaves the context."""
    try:
        yield
    except BaseException as error:
        if IN_CHILD:
            # The loader raises AppLoadError from the application's exception.
            exit_by(error.__context__ if isinstance(error, AppLoadError) and error.__context__ else error)
        raise
    if IN_CHILD:
        exit_child(0)


def exit_child(code: int) -> NoReturn:
    """End this child as Python ends a process, without returning through its parent's frames on the stack."""
    for step in (_wait_for_threads, atexit._run_exitfuncs, own_lines.flush):
        # As at the end of the interpreter, an exception is shown, and the next step follows.
        try:
            step()
        except BaseException as error:
            _show(error)
    os._exit(code & 0xFF)


def exit_by(error: BaseException) -> NoReturn:
    """End this child because of an uncaught exception, with the exit code or signal that Python would use."""
    if isinstance(error, SystemExit):
        exit_child(_exit_code(error))
    _show(error)
    if isinstance(error, KeyboardInterrupt):
        # Python ends a process by SIGINT after an uncaught KeyboardInterrupt, so that its parent sees the signal.
        own_lines.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    exit_child(1)


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    _write(f"{error.code}\n")
    return 1


def _show(error: BaseException) -> None:
    # The frames of appsrv, which has called the application, are left out.
    frames = own_frames.without_own(error.__traceback__)
    _write("".join(traceback.format_exception(type(error), error, frames)))


def _write(text: str) -> None:
    # As Python does. The application may have replaced `sys.stderr`, or set it to None.
    try:
        sys.stderr.write(text)
    except Exception:
        own_lines.write(text)


def _wait_for_threads() -> None:
    end: Callable[[], object] | None = getattr(threading, "_shutdown", None)
    if end is not None:
        end()


# -- around each fork -------------------------------------------------------------------------------------------------


def _before() -> None:
    # Python clears the pending signals of a child after a fork. A signal that arrives before the child has its own
    # handlers would be lost (`terminate()` directly after `start()`, as in `with Pool()`). So signals are blocked until
    # then.
    _masks[unpatched.get_ident()] = own_signals.block()


def _in_parent() -> None:
    _unblock()


def _in_child() -> None:
    global IN_CHILD
    if unpatched.get_ident() not in _forks_itself:
        IN_CHILD = True
        own_signals.restore()
        exit_functions.reset_in_child()
        for drop in _drop:
            with contextlib.suppress(Exception):
                drop()
        _drop.clear()
    _unblock()


def _unblock() -> None:
    before = _masks.pop(unpatched.get_ident(), None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
