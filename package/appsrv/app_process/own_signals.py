"""Signal handlers of appsrv in a process of the application, which the programs that it starts must not inherit.

A signal that must have no effect gets a handler that does nothing. SIG_IGN would be inherited through execve(2) by
every program that the application starts; Ctrl-C could not end such a program, and it would get no SIGHUP when its
terminal is closed. execve(2) resets a handler to the default. In a forked child, `restore` restores the handlers that
were replaced. Knows signals only.
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
_restored = False


def handle(number: signal.Signals, handler: Handler) -> None:
    """Handle the signal with `handler` in this process, but not in the processes that the application starts."""

    def in_owner(number: int, frame: FrameType | None) -> None:
        if not _restored:
            handler(number, frame)
        else:
            # In a child, the application has installed this handler again or calls it: act as the default handler does.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = signal.signal(number, in_owner)
    if before is not _ours.get(number):
        _before[number] = signal.SIG_DFL if before is None else before
    _ours[number] = in_owner


def neutralize(number: signal.Signals) -> None:
    """Install a handler that does nothing, so that the signal has no effect on this process.

    A handler of the application is kept. SIG_IGN is kept, too: the operator has set it (nohup(1)), for all processes.
    """
    if signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler, _ours.get(number)):
        return
    if number in _FROM_TERMINAL:
        handle(number, _ignore_from_terminal)
        return
    handle(number, _do_nothing)
    # System calls in C code are restarted and not interrupted, as with SIG_IGN (siginterrupt(3)).
    signal.siginterrupt(number, False)


def block() -> set[int]:
    """Block the signals that are handled here, in this thread. Returns the mask before."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, _ours))


def restore() -> None:
    """In a child: restore the previous handlers, except where the application has replaced appsrv's."""
    global _restored
    _restored = True
    for number, ours in _ours.items():
        if signal.getsignal(number) is ours:
            signal.signal(number, _before[number])
    _ours.clear()


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """The handler of signals that a terminal sends to all processes, and that only the watchdog acts on."""


def _ignore_from_terminal(number: int, _frame: FrameType | None) -> None:
    """The handler of SIGTTIN and SIGTTOU. The kernel sends them to a background process that uses its terminal.

    After a handler, the system call is restarted and the kernel sends the signal again, endlessly. So the handler
    ignores the signal: then a read fails with EIO, and setting the modes of the terminal succeeds (termios(3)).
    """
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if os.tcgetpgrp(terminal) != os.getpgrp():
                signal.signal(number, signal.SIG_IGN)
        finally:
            os.close(terminal)
