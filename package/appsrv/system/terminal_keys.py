"""Reads keys from a terminal, one at a time and without echo, and writes text to it. Knows no menu and no page.

Ctrl-C and Ctrl-Z are read as keys and send no signal, so that they cannot interrupt the output of a line.
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
"""How long to wait for the rest of an arrow key after its first byte; without a rest, the key was Esc."""

_UNKNOWN_SIZE = os.terminal_size((80, 24))

Handler = Callable[[int, FrameType | None], None]
Modes = list[Any]
"""The attributes of a terminal (termios(3))."""


def modes_of(keyboard: int) -> Modes:
    """The present modes, for `restore`. Raises termios.error if it is no terminal."""
    modes: Modes = termios.tcgetattr(keyboard)
    return modes


def take_keys(keyboard: int) -> None:
    """Set the terminal to deliver each key at once, without echo and without signals."""
    tty.setcbreak(keyboard)
    modes = termios.tcgetattr(keyboard)
    modes[3] &= ~termios.ISIG
    termios.tcsetattr(keyboard, termios.TCSADRAIN, modes)


def restore(keyboard: int, modes: Modes) -> None:
    """Restore the modes of the terminal. Raises OSError or termios.error if it has been closed."""
    termios.tcsetattr(keyboard, termios.TCSADRAIN, modes)


@contextlib.contextmanager
def tidy_exit(handlers: Mapping[int, Handler] | None = None) -> Iterator[None]:
    """Within this context SIGTERM and SIGHUP raise SystemExit, so that `finally` blocks run.

    `handlers`: handlers for other signals, within the context.
    """
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
    """One key: a byte, or the three bytes of an arrow key; b"" if the terminal was closed."""
    key = os.read(keyboard, 1)
    if key == ESCAPE:
        while len(key) < 3 and select.select([keyboard], [], [], ESCAPE_SECONDS)[0]:
            more = os.read(keyboard, 1)
            if not more:
                break
            key += more
    return key


def write(screen: int, text: str) -> None:
    """Write all of a text."""
    content = text.encode("utf-8", "replace")
    while content:
        content = content[os.write(screen, content) :]


def size_of(screen: int) -> os.terminal_size:
    """The present columns and lines; 80 and 24 if the terminal does not report them."""
    try:
        size = os.get_terminal_size(screen)
    except OSError:
        return _UNKNOWN_SIZE
    return os.terminal_size((size.columns or _UNKNOWN_SIZE.columns, size.lines or _UNKNOWN_SIZE.lines))
