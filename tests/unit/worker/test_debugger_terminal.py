"""worker/debugger_terminal.py: Ctrl-C, which the main thread handles for a debugger in another thread."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from appsrv.ipc.scoreboard import Scoreboard
from appsrv.system import unpatched
from appsrv.worker.debugger_terminal import DebuggerTerminal


class Borrowed(DebuggerTerminal):
    """A terminal that a thread has borrowed, without a lender."""

    def __init__(self, thread: int) -> None:
        super().__init__("", Scoreboard.create(1, 1).slot(0))
        self._usual: Any = io.StringIO()
        self._connection, self.lender = socket.socketpair()
        self._own = [os.dup(0), os.dup(1)]
        self._holder = self._thread = thread

    def is_borrowed(self) -> bool:
        try:
            return self.lender.recv(1, socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back the handlers of signals that a test installs."""
    monkeypatch.setattr(DebuggerTerminal, "exists", True)
    monkeypatch.setattr(DebuggerTerminal, "_watch_debuggers", lambda _self: None)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTSTP, signal.SIGURG)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_ctrl_c_ends_the_read_of_another_thread_and_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(os.read(read, 10)))
    reader.start()
    terminal = Borrowed(reader.ident or 0)
    interrupted: list[int] = []
    interrupt = terminal._interrupt
    monkeypatch.setattr(terminal, "_interrupt", lambda number, frame: interrupted.append(number))
    terminal.install()
    # The usual input is at its end.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, read)
    interrupt(signal.SIGINT, None)
    reader.join(10)
    assert found == [b""]
    assert interrupted == [], "the next debugger would take the signal for another Ctrl-C"
    assert terminal.is_borrowed(), "another request would read from it beside a holder that has not left its read"
    interrupt(signal.SIGINT, None)
    assert not terminal.is_borrowed()
    terminal.lender.close()
    for fd in (read, write, null):
        os.close(fd)


def test_after_ctrl_c_the_end_of_the_request_gives_the_terminal_back() -> None:
    terminal = Borrowed(threading.get_ident())
    terminal._thread = unpatched.get_ident()
    terminal._interrupt(signal.SIGINT, None)
    assert terminal.is_borrowed()
    terminal.request_over()
    assert not terminal.is_borrowed()
    terminal.lender.close()
