"""Lends the watchdog's terminal to one process at a time: a debugger in a worker has to read from it.

A process connects to a socket in the run directory. When its turn comes, it gets the descriptor of the terminal, and it
has the terminal as long as the connection lives. So the end of the process gives the terminal back. Meanwhile the
process group of that process is in the foreground (tcsetpgrp(3)), so that it gets the SIGINT of Ctrl-C, and the output
of all other processes waits. Knows processes, not what they do.
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
"""struct ucred of unix(7): pid, uid and gid of the process at the other end of a connection."""


class TerminalLender:
    """Lends `terminal`. `catch_up` shows all that a process has printed so far, before it gets the terminal."""

    def __init__(
        self, selector: selectors.BaseSelector, directory: Path, terminal: Terminal, catch_up: Callable[[int], None]
    ) -> None:
        self._selector = selector
        self._terminal = terminal
        self._catch_up = catch_up
        self._waiting: deque[tuple[int, socket.socket]] = deque()
        self._holder: socket.socket | None = None
        self._attributes: list[Any] = []
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(directory / SOCKET))
        self._listening.listen(16)
        self._listening.setblocking(False)
        selector.register(self._listening, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Take the terminal back, and lend it to no other process."""
        self._listening.close()
        if self._holder is not None:
            self._take_back()
        for _, connection in self._waiting:
            connection.close()

    def _accept(self) -> None:
        connection, _ = self._listening.accept()
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._waiting.append((_CREDENTIALS.unpack(peer)[0], connection))
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._on_end(connection))
        self._lend_to_next()

    def _on_end(self, connection: socket.socket) -> None:
        """A connection is readable. The other side never writes, so this is the end of the connection."""
        self._selector.unregister(connection)
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not connection)
        if connection is self._holder:
            self._take_back()
        connection.close()
        self._lend_to_next()

    def _lend_to_next(self) -> None:
        while self._holder is None and self._waiting:
            pid, connection = self._waiting.popleft()
            if not self._lend(pid, connection):
                self._selector.unregister(connection)
                connection.close()

    def _lend(self, pid: int, connection: socket.socket) -> bool:
        """Lend the terminal; False if the watchdog is a background job of its shell, or the process has ended."""
        try:
            if os.tcgetpgrp(KEYBOARD) != os.getpgrp():
                return False
            self._catch_up(pid)
            self._terminal.hold()
            # The borrower may change the terminal's modes and be killed before it restores them.
            self._attributes = termios.tcgetattr(KEYBOARD)
            _put_in_foreground(os.getpgid(pid))
            self._holder = connection
            socket.send_fds(connection, [b"!"], [KEYBOARD])
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
    # The watchdog is in the background when it takes the terminal back. There tcsetpgrp(3) sends SIGTTOU, which stops
    # the process, unless the signal is blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(KEYBOARD, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def can_lend() -> bool:
    """Whether this process can read from a terminal and write to it, and is in the foreground of that terminal."""
    try:
        return os.isatty(0) and os.isatty(1) and os.tcgetpgrp(KEYBOARD) == os.getpgrp()
    except OSError:
        return False
