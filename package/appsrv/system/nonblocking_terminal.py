"""The terminal of a process that must never wait for it: one stopped with Ctrl-S, a pager nobody scrolls, a full pipe.

A thread writes, everybody else only queues. What does not fit into the queue is dropped, and how many lines those were
is said as soon as something is taken again. Knows descriptors and text; what is shown is everybody else's business.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO, cast

# Where the watchdog lends its terminal, within the run directory.
SOCKET = "terminal.sock"
# What may wait for the terminal: some ten thousand lines.
BACKLOG_BYTES = 1 << 20
# Without progress for so long, the end is not waited for any longer.
STALLED_SECONDS = 1.0
POLL_INTERVAL_SECONDS = 0.05
# How long to wait before another write to a terminal that takes nothing.
RETRY_SECONDS = 0.02


class Terminal:
    """Writes to descriptors in the order it was told to. `write` returns at once, whatever they do."""

    def __init__(self, room: int = BACKLOG_BYTES) -> None:
        self._room = room
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._dropped = 0
        self._progress = time.monotonic()
        self._over = False
        self._held = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="appsrv-terminal", daemon=True)
        self._thread.start()

    def write(self, fd: int, data: bytes) -> None:
        """Queue it, all or nothing."""
        with self._changed:
            # What is longer than all the room is taken where nothing waits: it must not be lost for its length.
            if self._size and self._size + len(data) > self._room:
                self._dropped += max(1, data.count(b"\n"))
                return
            self._queue(fd, data)

    def close(self, patience: float = STALLED_SECONDS) -> None:
        """Wait until everything is written, but no longer than `patience` seconds for something to be taken."""
        with self._changed:
            self._over = True
            self._progress = time.monotonic()
            self._changed.notify_all()
            while self._waiting and time.monotonic() - self._progress < patience:
                self._changed.wait(POLL_INTERVAL_SECONDS)

    def hold(self, patience: float = STALLED_SECONDS) -> None:
        """Write what waits, as far as that is taken, and then nothing until `go_on`."""
        with self._changed:
            self._progress = time.monotonic()
            while self._waiting and time.monotonic() - self._progress < patience:
                self._changed.wait(POLL_INTERVAL_SECONDS)
            self._held = True

    def go_on(self) -> None:
        """Write again."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def _queue(self, fd: int, data: bytes) -> None:
        self._waiting.append((fd, data))
        self._size += len(data)
        self._changed.notify_all()

    def _run(self) -> None:
        # They are the main thread's. And a write with TTOU blocked is allowed where `stty tostop` forbids it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (first := self._next()) is not None:
            fd, data = first
            while data:
                try:
                    data = data[os.write(fd, data) :]
                except BlockingIOError:
                    # Somebody who shares the terminal has made it non-blocking.
                    time.sleep(RETRY_SECONDS)
                    continue
                except OSError:
                    # It has gone away; the server log has the line.
                    break
                self._progress = time.monotonic()
            self._done(fd, len(first[1]))

    def _next(self) -> tuple[int, bytes] | None:
        with self._changed:
            while (self._held or not self._waiting) and not self._over:
                self._changed.wait()
            return self._waiting[0] if self._waiting else None

    def _done(self, fd: int, size: int) -> None:
        with self._changed:
            self._waiting.popleft()
            self._size -= size
            if self._dropped and not self._waiting:
                notice = f"appsrv: {self._dropped} lines are not shown: nothing was taken here. The log has them.\n"
                self._dropped = 0
                self._queue(fd, notice.encode())
            self._changed.notify_all()


class Stream(io.TextIOBase):
    """A text stream of a terminal, to stand in for `original`, which keeps its answers to what it is."""

    def __init__(self, terminal: Terminal, original: io.TextIOWrapper) -> None:
        super().__init__()
        self._terminal = terminal
        self._original = original

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._original.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._original.errors

    @property
    def buffer(self) -> io.RawIOBase:
        """The same stream for bytes."""
        return _Bytes(self._terminal, self.fileno())

    def fileno(self) -> int:
        return self._original.fileno()

    def isatty(self) -> bool:
        return self._original.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"text is written here, not {type(text).__name__}")
        # A character that the terminal's encoding lacks must not end the process that had something to say.
        self._terminal.write(self.fileno(), text.encode(self.encoding, "backslashreplace"))
        return len(text)


class _Bytes(io.RawIOBase):
    """What writes bytes to a descriptor of the terminal."""

    def __init__(self, terminal: Terminal, fd: int) -> None:
        super().__init__()
        self._terminal = terminal
        self._fd = fd

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._terminal.write(self._fd, bytes(data))
        return len(data)


def occupy_standard_descriptors() -> None:
    """Where the process was started with one of the three closed, nothing else may get its number."""
    # The system gives the lowest number that is free.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))


@contextlib.contextmanager
def never_waiting() -> Iterator[Terminal | None]:
    """Within it nothing that this process prints waits for a terminal or a pipe; gives who does the waiting."""
    before = sys.stdout, sys.stderr
    if not any(_may_block(stream) for stream in before):
        yield None
        return
    terminal = Terminal()
    try:
        sys.stdout, sys.stderr = (_stand_in(terminal, stream) for stream in before)
        yield terminal
    finally:
        sys.stdout, sys.stderr = before
        terminal.close()


def _stand_in(terminal: Terminal, stream: TextIO) -> TextIO:
    # A process started with a stream closed has None in its place.
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return cast("TextIO", Stream(terminal, stream))


def _may_block(stream: object) -> bool:
    """Whether writing may wait for somebody; a file on a disk takes everything."""
    return isinstance(stream, io.TextIOWrapper) and not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
