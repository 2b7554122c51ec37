"""Lends the watchdog's terminal to one process at a time: a debugger in a worker has to read from it.

Who wants it connects to a socket in the run directory, gets the terminal's descriptor when its turn comes, and has the
terminal as long as the connection lives: the end of a process gives it back. Meanwhile that process's group is in the
foreground (tcsetpgrp(3)), so that Ctrl-C is for it, and what others print waits. Knows processes, not what they do.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appsrv.system.nonblocking_terminal import SOCKET, Terminal

KEYBOARD = 0
_CREDENTIALS = struct.Struct("3i")


class TerminalLender:
    """`catch_up` is called before a process gets the terminal: what it has printed until then is to be shown first."""

    def __init__(
        self, selector: selectors.BaseSelector, directory: Path, terminal: Terminal, catch_up: Callable[[int], None]
    ) -> None:
        self._selector = selector
        self._terminal = terminal
        self._catch_up = catch_up
        self._waiting: deque[tuple[int, socket.socket]] = deque()
        self._holder: socket.socket | None = None
        self._attributes: list[Any] = []
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(str(directory / SOCKET))
        self._door.listen(16)
        self._door.setblocking(False)
        selector.register(self._door, selectors.EVENT_READ, self._admit)

    def close(self) -> None:
        """The terminal is ours again, and nobody else's."""
        self._door.close()
        if self._holder is not None:
            self._take_back()
        for _, guest in self._waiting:
            guest.close()

    def _admit(self) -> None:
        guest, _ = self._door.accept()
        pid = _CREDENTIALS.unpack(guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
        self._waiting.append((pid, guest))
        self._selector.register(guest, selectors.EVENT_READ, lambda: self._left(guest))
        self._lend_to_next()

    def _left(self, guest: socket.socket) -> None:
        """Nobody writes here: it is the end of the connection."""
        self._selector.unregister(guest)
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not guest)
        if guest is self._holder:
            self._take_back()
        guest.close()
        self._lend_to_next()

    def _lend_to_next(self) -> None:
        while self._holder is None and self._waiting:
            pid, guest = self._waiting.popleft()
            if not self._lend(pid, guest):
                self._selector.unregister(guest)
                guest.close()

    def _lend(self, pid: int, guest: socket.socket) -> bool:
        """False when there is nothing to lend: this is a background job, or the process has gone."""
        try:
            if os.tcgetpgrp(KEYBOARD) != os.getpgrp():
                return False
            self._catch_up(pid)
            self._terminal.hold()
            self._attributes = termios.tcgetattr(KEYBOARD)
            _put_in_foreground(os.getpgid(pid))
            self._holder = guest
            socket.send_fds(guest, [b"!"], [KEYBOARD])
        except OSError:
            self._take_back()
            return False
        return True

    def _take_back(self) -> None:
        self._holder = None
        with contextlib.suppress(OSError, termios.error):
            _put_in_foreground(os.getpgrp())
            termios.tcsetattr(KEYBOARD, termios.TCSADRAIN, self._attributes)
        self._terminal.resume()


def _put_in_foreground(group: int) -> None:
    # From the background it is allowed to those alone that TTOU cannot stop.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(KEYBOARD, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def can_lend() -> bool:
    """Whether this process has a terminal, to read from and to write to, in whose foreground it is."""
    try:
        return os.isatty(0) and os.isatty(1) and os.tcgetpgrp(KEYBOARD) == os.getpgrp()
    except OSError:
        return False
