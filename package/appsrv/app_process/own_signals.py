"""The signal handlers that appsrv puts into an application's process, and how they stay out of what that starts.

A signal that has to do nothing gets a handler that does nothing. SIG_IGN would pass through execve(2) to every program
that the application starts, which then could not be ended by Ctrl-C or told of a terminal that has gone; a handler
becomes the default there. A forked child has `give_back` put back what was there before. Knows signals only.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

_FROM_TERMINAL = (signal.SIGTTIN, signal.SIGTTOU)
_before: dict[int, Any] = {}
_ours: dict[int, Any] = {}
_given_back = False


def handle(number: signal.Signals, handler: Handler) -> None:
    """Have `handler` take the signal, in this process but not in those that the application starts."""

    def in_owner(number: int, frame: FrameType | None) -> None:
        if not _given_back:
            handler(number, frame)
        else:
            # The application has kept this handler and calls it, or has put it back, in a child.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = signal.signal(number, in_owner)
    if before is not _ours.get(number):
        _before[number] = signal.SIG_DFL if before is None else before
    _ours[number] = in_owner


def do_nothing_at(number: signal.Signals) -> None:
    """Let the signal have no effect here.

    A handler of the application stays. So does SIG_IGN, which is then the operator's (nohup(1)) and meant for all.
    """
    if signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler, _ours.get(number)):
        return
    if number in _FROM_TERMINAL:
        handle(number, _ignore_from_terminal)
        return
    handle(number, _do_nothing)
    # System calls of C code go on as if nothing had come, as with SIG_IGN.
    signal.siginterrupt(number, False)


def block() -> set[int]:
    """Let the signals that are handled here wait for this thread; returns the mask that was."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, _ours))


def give_back() -> None:
    """In a child: put back what was there before, unless the application has put its own in place meanwhile."""
    global _given_back
    _given_back = True
    for number, ours in _ours.items():
        if signal.getsignal(number) is ours:
            signal.signal(number, _before[number])
    _ours.clear()


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """For signals that are sent to all processes at once, and meant for the watchdog."""


def _ignore_from_terminal(number: int, _frame: FrameType | None) -> None:
    """From the kernel it comes because this process uses its terminal in the background.

    The system call that does so is made again after the handler, and would bring the signal again, for ever. Ignored,
    the signal lets it end: reading fails (EIO), setting the terminal succeeds.
    """
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if os.tcgetpgrp(terminal) != os.getpgrp():
                signal.signal(number, signal.SIG_IGN)
        finally:
            os.close(terminal)
