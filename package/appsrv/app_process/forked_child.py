"""A child that the application forks from one of its processes: what it does not keep, and how it ends.

A view, or a module at import, may fork (`os.fork`, `multiprocessing`). The child is a process of the application alone:
it answers no request and takes none, gets signals as if appsrv were not there, and runs no exit function of its
parent. Where the parent's code would go on in appsrv, the child ends (`leave`). Each part of a process registers with
`on_fork` how a child drops what belongs to that part. Knows forks, not workers.

A program that is started without Python's fork (`subprocess`, `os.posix_spawn`) runs none of this: what it must not
inherit has to be closed on exec or, for signals, handled instead of ignored (module `own_signals`).
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
"""Whether this process is such a child. Read for each request: a plain name costs least."""

_drop: list[Callable[[], object]] = []
_forks_itself: set[int] = set()
_masks: dict[int, set[int]] = {}
_watches = False


def watch() -> None:
    """See to the children of this process, and of all that appsrv forks from it, from now on."""
    global _watches
    if not _watches:
        _watches = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def on_fork(drop: Callable[[], object]) -> None:
    """Have `drop` called in each child, once. It may neither block nor write to what the parent shares."""
    _drop.append(drop)


def fork_for_appsrv(fork: Callable[[], int]) -> int:
    """Fork a process that is appsrv's own: it starts with nothing registered, and drops what it likes itself."""
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
    """What `ps` shows of a child: it is no worker."""
    return f"appsrv child {name}"


@contextlib.contextmanager
def kept_out() -> Iterator[None]:
    """Around application code: a child that was forked there ends with the block, the parent goes on."""
    try:
        yield
    except BaseException as error:
        if IN_CHILD:
            # Loading makes an error of its own of what the application has raised.
            leave_by(error.__context__ if isinstance(error, AppLoadError) and error.__context__ else error)
        raise
    if IN_CHILD:
        leave(0)


def leave(code: int) -> NoReturn:
    """End this child as Python ends a process, but for the frames of its parent that are still on the stack."""
    for step in (_wait_for_threads, atexit._run_exitfuncs, own_lines.flush):
        # As at the end of the interpreter, a failure is shown and keeps nothing else from being done.
        try:
            step()
        except BaseException as error:
            _show(error)
    os._exit(code & 0xFF)


def leave_by(error: BaseException) -> NoReturn:
    """End this child by an exception that nothing has caught."""
    if isinstance(error, SystemExit):
        leave(_exit_code(error))
    _show(error)
    if isinstance(error, KeyboardInterrupt):
        # Its parent is to see which signal has ended it.
        own_lines.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    leave(1)


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    _write(f"{error.code}\n")
    return 1


def _show(error: BaseException) -> None:
    # The reader looks for the application's frames: those of appsrv, which has called it, are left out.
    frames = own_frames.without_own(error.__traceback__)
    _write("".join(traceback.format_exception(type(error), error, frames)))


def _write(text: str) -> None:
    # As Python does: the application may have its own stream there, or none.
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
    # A signal that arrives before the child has its own handlers would be lost: Python forgets in a child what it has
    # noted (`terminate()` directly after `start()`, as `with Pool()` does it). So it waits until then.
    _masks[unpatched.get_ident()] = own_signals.block()


def _in_parent() -> None:
    _unblock()


def _in_child() -> None:
    global IN_CHILD
    if unpatched.get_ident() not in _forks_itself:
        IN_CHILD = True
        own_signals.give_back()
        exit_functions.leave_to_parent()
        for drop in _drop:
            with contextlib.suppress(Exception):
                drop()
        _drop.clear()
    _unblock()


def _unblock() -> None:
    before = _masks.pop(unpatched.get_ident(), None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
