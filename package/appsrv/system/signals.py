"""Delivers the signals of the watchdog, in the order of their arrival, to a loop that waits in a selector.

SIGHUP, SIGTTIN and SIGTTOU are read from a signalfd (signalfd(2), Linux), which reports the sender. SIGTTIN and SIGTTOU
count only if a process has sent them: the kernel also sends them to a background job that reads from its terminal, or
writes to one with `stty tostop`, but not while they are blocked, which signalfd requires. Knows signal numbers, not
their meaning.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import struct
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
HANDLED = (*ENDING, signal.SIGCHLD)
BY_HAND = (signal.SIGTTIN, signal.SIGTTOU)
WITH_SENDER = (signal.SIGHUP, *BY_HAND)
_INFO_BYTES, _SET_BYTES = 128, 128


class Arrived(NamedTuple):
    """A signal. `sender` is the sender's pid, 0 for the kernel, None if the system does not report it."""

    number: int
    sender: int | None = None


class Signals:
    """Catches the signals from now on. Each of them wakes the selector; `take` returns them."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._came: list[Arrived] = []
        self._interrupts = False
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        selector.register(self._wake[0], selectors.EVENT_READ, self._drain)
        for number in HANDLED:
            signal.signal(number, self._note)
        self._with_sender = _signalfd(WITH_SENDER)
        if self._with_sender >= 0:
            selector.register(self._with_sender, selectors.EVENT_READ, self._read_with_sender)

    def take(self) -> list[Arrived]:
        """The signals since the last call, oldest first."""
        came, self._came = self._came, []
        return came

    @contextlib.contextmanager
    def ending_interrupts(self) -> Iterator[None]:
        """Within this context SIGTERM and SIGINT raise SystemExit, also if they came before.

        For a call that waits for another process outside the selector.
        """
        self._interrupts = True
        try:
            for arrived in self._came:
                self._interrupt_at(arrived.number)
            yield
        finally:
            self._interrupts = False

    def _interrupt_at(self, number: int) -> None:
        if self._interrupts and number in (signal.SIGTERM, signal.SIGINT):
            raise SystemExit(128 + number)

    def ignore(self) -> None:
        """Ignore the signals that end the process, which is about to exit: none of them may change its exit status.

        The interpreter's finalization leaves ignored signals alone.
        """
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.append(Arrived(number))
        self._interrupt_at(number)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake[0], 4096)

    def _read_with_sender(self) -> None:
        with contextlib.suppress(BlockingIOError):
            number, _, code, pid = struct.unpack_from("IiiI", os.read(self._with_sender, _INFO_BYTES))
            # si_code > 0: the kernel has sent the signal (sigaction(2)).
            if code <= 0:
                self._came.append(Arrived(number, pid or None))
            elif number not in BY_HAND:
                self._came.append(Arrived(number, 0))


def _signalfd(numbers: tuple[signal.Signals, ...]) -> int:
    """Block these signals and return a descriptor from which they are read; -1 if the system has no signalfd."""
    if sys.platform != "linux":
        return -1
    mask = sum(1 << (number - 1) for number in numbers)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    fd = ctypes.CDLL(None, use_errno=True).signalfd(
        -1, struct.pack("Q", mask).ljust(_SET_BYTES, b"\0"), os.O_NONBLOCK | os.O_CLOEXEC
    )
    if fd < 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    return int(fd)
