"""`appsrv top` on a terminal: reads keys, draws the table of `top_table`, and carries out the command of a key.

Every end, also by a signal or an exception, restores the terminal; so does a stop (Ctrl-Z). A restart and a detachment
take longer: they run in a thread, and the screen shows their outcome afterwards.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from appsrv.commands import top_table
from appsrv.errors import AppsrvError, NotRunning
from appsrv.system.terminal_keys import (
    INTERRUPT,
    SUSPEND,
    modes_of,
    read_key,
    restore,
    size_of,
    take_keys,
    tidy_exit,
    write,
)

# Switch to the alternate screen and hide the cursor, and back (xterm control sequences).
_ENTER_SCREEN, _LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_STEPS = {b"\x1b[A": -1, b"\x1bOA": -1, b"k": -1, b"\x1b[B": 1, b"\x1bOB": 1, b"j": 1}


@dataclass(frozen=True)
class Actions:
    """The operations on the instance. `trace` returns lines; `detach` (a pid) and `restart` (a group) a message."""

    read: Callable[[], top_table.Reading]
    trace: Callable[[int], list[str]]
    detach: Callable[[int], str]
    restart: Callable[[str], str]


class FullScreen:
    """The terminal while `top` uses it: draws lines, reads keys. SIGWINCH and SIGCONT end a wait for a key."""

    def __init__(self, keyboard: int, screen: int) -> None:
        self._keyboard = keyboard
        self._screen = screen
        # A signal handler writes a byte into this pipe. select(2) in `key` waits for it as well, so no signal between
        # the drawing and the wait is missed.
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Switch the terminal to the full screen, and restore it at the end."""
        self._before = modes_of(self._keyboard)
        try:
            with tidy_exit({signal.SIGWINCH: self._wake_up, signal.SIGTSTP: self._suspend}):
                try:
                    self._enter()
                    yield
                finally:
                    self._restore()
        finally:
            for end in self._wake:
                os.close(end)

    def draw(self, lines: list[str]) -> None:
        """Fill the screen with these lines."""
        write(self._screen, "\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")

    def size(self) -> os.terminal_size:
        """The present size of the terminal."""
        return size_of(self._screen)

    def key(self, seconds: float) -> bytes:
        """The next key; b"" after `seconds` without a key, or when the terminal has changed.

        Raises `KeyboardInterrupt` on Ctrl-C.
        """
        ready = select.select([self._keyboard, self._wake[0]], [], [], max(0.0, seconds))[0]
        if self._wake[0] in ready:
            os.read(self._wake[0], 512)
        if self._keyboard not in ready:
            return b""
        key = read_key(self._keyboard)
        if key == INTERRUPT:
            raise KeyboardInterrupt
        if key == SUSPEND:
            os.kill(os.getpid(), signal.SIGTSTP)
            return b""
        # End of file: the terminal was closed, so `top` ends.
        return key or b"q"

    def _enter(self) -> None:
        take_keys(self._keyboard)
        write(self._screen, _ENTER_SCREEN)

    def _restore(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            write(self._screen, _LEAVE_SCREEN)
            restore(self._keyboard, self._before)

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        # The handler has replaced the default action, which stops the process. It restores the terminal for the shell,
        # and then stops the process by sending itself the signal with the default action.
        self._restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # The process continues here after SIGCONT.
        signal.signal(signal.SIGTSTP, self._suspend)
        self._enter()
        self._wake_up(0, None)

    def _wake_up(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake[1], b"!")


class Top:
    """The main loop of `top`. `run` returns on the key `q`, and raises `NotRunning` when the instance has ended."""

    def __init__(self, screen: FullScreen, actions: Actions, *, sort: str, interval: float, colour: bool) -> None:
        self._screen = screen
        self._actions = actions
        self._sort = sort
        self._interval = interval
        self._colour = colour
        self._selected = 0
        self._notice = ""
        self._page: list[str] = []
        self._question: tuple[str, Callable[[], str]] | None = None
        self._now: top_table.Reading | None = None
        self._before: top_table.Reading | None = None

    def run(self) -> None:
        """Read the status, draw the table and handle keys, until the key `q`."""
        due = 0.0
        with self._screen.opened():
            while True:
                if time.monotonic() >= due:
                    self._read_status()
                    due = time.monotonic() + self._interval
                self._draw()
                key = self._screen.key(due - time.monotonic())
                if key and not self._handle_key(key):
                    return

    def _read_status(self) -> None:
        try:
            now = self._actions.read()
        except NotRunning:
            raise
        except AppsrvError as error:
            self._notice = str(error)
            return
        self._before, self._now = self._now, now

    def _shown(self) -> top_table.Summary | None:
        return None if self._now is None else top_table.summary(self._now, self._before, self._sort)

    def _draw(self) -> None:
        size, shown = self._screen.size(), self._shown()
        if self._page:
            lines = [*self._page[: size.lines - 1], "Any key: back"]
            self._screen.draw([top_table.cut(line, size.columns) for line in lines])
        elif shown is None:
            self._screen.draw([top_table.cut(self._notice, size.columns)])
        else:
            if not any(row.pid == self._selected for row in shown.workers):
                self._selected = top_table.moved(shown, 0, 0)
            notice = f"{self._question[0]} (y/n)" if self._question else self._notice
            self._screen.draw(
                top_table.render(
                    shown, size, self._sort, selected=self._selected, colour=self._colour, notice=notice
                )
            )

    def _handle_key(self, key: bytes) -> bool:
        """Handle a key. False: end the loop."""
        shown, question = self._shown(), self._question
        if self._page:
            self._page = []
        elif question is not None:
            self._question = None
            if key in (b"y", b"Y"):
                self._notice = "working …"
                threading.Thread(target=self._work, args=(question[1],), daemon=True).start()
        elif key == b"q":
            return False
        elif key == b"?":
            self._page = top_table.HELP
        elif key.decode("latin-1") in top_table.SORTS:
            self._sort = key.decode("latin-1")
        elif shown is not None:
            self._handle_worker_key(key, shown)
        return True

    def _handle_worker_key(self, key: bytes, shown: top_table.Summary) -> None:
        row = next((row for row in shown.workers if row.pid == self._selected), None)
        if key in _STEPS:
            self._selected = top_table.moved(shown, self._selected, _STEPS[key])
        elif row is not None and key == b"t":
            try:
                self._page = self._actions.trace(row.pid)
            except AppsrvError as error:
                self._notice = str(error)
        elif row is not None and key == b"d":
            self._question = (f"Detach worker {row.pid}?", lambda: self._actions.detach(row.pid))
        elif row is not None and key == b"R":
            self._question = (f"Restart {row.group}?", lambda: self._actions.restart(row.group))

    def _work(self, work: Callable[[], str]) -> None:
        try:
            self._notice = work()
        except AppsrvError as error:
            self._notice = str(error)
