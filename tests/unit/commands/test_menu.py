"""The menu on a real pseudo-terminal, in a process of its own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from appsrv.commands import menu

pytestmark = pytest.mark.process

CODE = (
    "import sys; from appsrv.commands import menu\n"
    "print('chose', menu.choose(['/srv/shop (production)', '/srv/blog (production)'], 0, 1), flush=True)\n"
)
DEADLINE = 10.0


class Terminal:
    """The person's side: what is on the screen so far, and the keys."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.before = termios.tcgetattr(self.theirs)
        self.drawn = b""
        command = [sys.executable, "-c", CODE]
        self.child = subprocess.Popen(command, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            if select.select([self.ours], [], [], 0.05)[0]:
                self.drawn += os.read(self.ours, 4096)

    @property
    def screen(self) -> str:
        """What was drawn; of a character the first half may have come alone."""
        return self.drawn.decode(errors="replace")

    def press(self, keys: bytes, then: str) -> None:
        self.drawn = b""
        os.write(self.ours, keys)
        self.wait_for(then)

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.theirs) == self.before

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    opened.wait_for("Cancel")
    yield opened
    opened.close()


def test_arrows_move_the_marker_and_enter_takes(terminal: Terminal) -> None:
    assert " \u2023   /srv/shop (production)\r\n" in terminal.screen
    terminal.press(b"\x1b[B", " \u2023   /srv/blog (production)\r\n")
    terminal.press(b"\r", "chose 1")
    assert terminal.child.wait(DEADLINE) == 0
    assert terminal.is_as_before()
    assert "\x1b[?25h" in terminal.screen


@pytest.mark.parametrize("keys", [b"q", b"\x1b", b"\x1b[A\r", b"\x1bOA\r", b"jj\n"])
def test_ways_out(terminal: Terminal, keys: bytes) -> None:
    terminal.press(keys, "chose None")
    assert terminal.child.wait(DEADLINE) == 0
    assert terminal.is_as_before()


def test_ctrl_c_is_an_interrupt(terminal: Terminal) -> None:
    terminal.press(b"\x03", "KeyboardInterrupt")
    assert terminal.child.wait(DEADLINE) == -signal.SIGINT
    assert terminal.is_as_before()


def test_a_terminal_without_unicode(terminal: Terminal) -> None:
    terminal.press(b"!", " >   /srv/shop")
    terminal.press(b"q", "chose None")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_when_a_signal_ends_it(terminal: Terminal, number: signal.Signals) -> None:
    terminal.child.send_signal(number)
    terminal.wait_for("\x1b[?25h")
    assert terminal.child.wait(DEADLINE) == 128 + number
    assert terminal.is_as_before()


def test_the_marker_goes_round() -> None:
    assert menu.moved(0, b"\x1b[A", 3) == 2
    assert menu.moved(2, b"\x1b[B", 3) == 0
    assert menu.moved(1, b"x", 3) == 1


@pytest.mark.parametrize(
    ("count", "current", "height", "shown"),
    [(3, 0, 10, [0, 1, 2]), (9, 0, 3, [0, 1, 2]), (9, 4, 3, [3, 4, 5]), (9, 8, 3, [6, 7, 8])],
)
def test_a_long_list_shows_what_is_around_the_marker(
    count: int, current: int, height: int, shown: list[int]
) -> None:

    assert list(menu.window(count, current, height)) == shown
