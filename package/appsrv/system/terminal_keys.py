"""Keys from a terminal, one at a time and unseen, and text to it. Knows no menu and no page.

Ctrl-C and Ctrl-Z come as keys, so that neither takes effect between two halves of a line.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

INTERRUPT, SUSPEND, ESCAPE = b"\x03", b"\x1a", b"\x1b"

ESCAPE_SECONDS = 0.1
"""Seconds a terminal may take to send the rest of an arrow key; a lone Esc key is Esc."""

_UNKNOWN_SIZE = os.terminal_size((80, 24))

Handler = Callable[[int, FrameType | None], None]
Modes = list[Any]
"""The attributes of a terminal (termios(3))."""


def modes_of(keyboard: int) -> Modes:
    """The modes at present, for `restore`."""
    modes: Modes = termios.tcgetattr(keyboard)
    return modes


def take_keys(keyboard: int) -> None:
    """Have each key come at once and without an echo."""
    tty.setcbreak(keyboard)
    modes = termios.tcgetattr(keyboard)
    modes[3] &= ~termios.ISIG
    termios.tcsetattr(keyboard, termios.TCSADRAIN, modes)


def restore(keyboard: int, modes: Modes) -> None:
    """Put back the modes that the terminal had. Raises OSError or termios.error where it has been closed."""
    termios.tcsetattr(keyboard, termios.TCSADRAIN, modes)


@contextlib.contextmanager
def tidy_exit(handlers: Mapping[int, Handler] | None = None) -> Iterator[None]:
    """Within, a signal that would end the process at once ends it through `finally`. `handlers`: for other signals."""
    wanted = {signal.SIGTERM: _exit, signal.SIGHUP: _exit, **(handlers or {})}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def read_key(keyboard: int) -> bytes:
    """One key: a byte, or the three of an arrow key; b"" when the terminal has gone."""
    key = os.read(keyboard, 1)
    if key == ESCAPE:
        while len(key) < 3 and select.select([keyboard], [], [], ESCAPE_SECONDS)[0]:
            more = os.read(keyboard, 1)
            if not more:
                break
            key += more
    return key


def write(screen: int, text: str) -> None:
    """All of a text."""
    content = text.encode("utf-8", "replace")
    while content:
        content = content[os.write(screen, content) :]


def size_of(screen: int) -> os.terminal_size:
    """Its columns and lines at present; 80 and 24 where it does not tell."""
    try:
        size = os.get_terminal_size(screen)
    except OSError:
        return _UNKNOWN_SIZE
    return os.terminal_size((size.columns or _UNKNOWN_SIZE.columns, size.lines or _UNKNOWN_SIZE.lines))
