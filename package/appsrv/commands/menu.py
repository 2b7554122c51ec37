"""A menu on a terminal, with arrow keys and Enter. It uses only termios.

It knows the bytes from and to a terminal, not the meaning of the entries. Every end, also by a signal or an exception,
restores the terminal.
"""

from __future__ import annotations

import contextlib
import termios
from collections.abc import Iterator, Sequence

from appsrv.system.terminal_keys import INTERRUPT, modes_of, read_key, restore, size_of, take_keys, tidy_exit, write

# Arrow keys in normal and in application mode (ECMA-48, DECCKM), the keys of vi, those of Emacs (Ctrl-P, Ctrl-N), and
# Tab.
_UP = (b"\x1b[A", b"\x1bOA", b"k", b"\x10")
_DOWN = (b"\x1b[B", b"\x1bOB", b"j", b"\x0e", b"\t")
_ENTER = (b"\r", b"\n")
# `q`, Esc, Ctrl-D and the end of the input.
_CANCEL = (b"q", b"Q", b"\x1b", b"\x04", b"")
_HIDE, _SHOW, _CLEAR = "\x1b[?25l", "\x1b[?25h", "\x1b[2K\r"


def choose(entries: Sequence[str], terminal: int, screen: int) -> int | None:
    """The index of the chosen entry; None for the entry Cancel (added as the last one), `q` or Esc.

    `terminal`: the file descriptor for reading keys. `screen`: that of the same terminal for drawing. Raises
    `KeyboardInterrupt` on Ctrl-C.
    """
    lines = [*entries, "Cancel"]
    with _keys(terminal, screen):
        chosen = _run(lines, terminal, screen)
    return chosen if chosen is not None and chosen < len(entries) else None


def _run(lines: Sequence[str], terminal: int, screen: int) -> int | None:
    current, ascii_only = 0, False
    _draw(lines, current, screen, ascii_only)
    while True:
        key = read_key(terminal)
        if key == INTERRUPT:
            raise KeyboardInterrupt
        if key in _ENTER or key in _CANCEL:
            return current if key in _ENTER else None
        current = moved(current, key, len(lines))
        ascii_only ^= key == b"!"
        write(screen, f"\x1b[{_height(lines, screen)}A")
        _draw(lines, current, screen, ascii_only)


def moved(current: int, key: bytes, count: int) -> int:
    """The entry under the marker after a key; the marker wraps around at both ends."""
    return (current + (key in _DOWN) - (key in _UP)) % count


def window(count: int, current: int, height: int) -> range:
    """The entries to show if only `height` of them fit: those around the current one."""
    start = max(0, min(current - height // 2, count - height))
    return range(start, min(count, start + height))


def _height(lines: Sequence[str], screen: int) -> int:
    return min(len(lines), max(1, size_of(screen).lines - 5))


def _draw(lines: Sequence[str], current: int, screen: int, ascii_only: bool) -> None:
    marker, width = (">" if ascii_only else "\u2023"), size_of(screen).columns
    for number in window(len(lines), current, _height(lines, screen)):
        # A line that wraps would take two lines of the screen, and the cursor then would move up by too few lines.
        text = f" {marker if number == current else ' '}   {lines[number]}"[: width - 1]
        write(screen, f"{_CLEAR}{text}\n")


@contextlib.contextmanager
def _keys(terminal: int, screen: int) -> Iterator[None]:
    """Switch the terminal to single keys without echo, and hide the cursor; restore both at the end."""
    before = modes_of(terminal)
    with tidy_exit():
        try:
            take_keys(terminal)
            write(screen, _HIDE)
            yield
        finally:
            with contextlib.suppress(OSError, termios.error):  # The terminal may have been closed.
                restore(terminal, before)
                write(screen, _SHOW)
