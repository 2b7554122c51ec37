"""A terminal to which a process writes without ever blocking: it may be stopped with Ctrl-S, or be a pager or a full
pipe.

Other threads append to a queue; one thread writes. Lines for which the queue has no room are dropped, and their number
is written as soon as the terminal accepts bytes again. Knows descriptors and text.
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

SOCKET = "terminal.sock"
"""The socket in the run directory by which the watchdog lends its terminal to a worker."""
BACKLOG_BYTES = 1 << 20
"""The size of the queue: some ten thousand lines."""
STALLED_SECONDS = 1.0
"""At the end, the queue is abandoned after this time in which the terminal has accepted no bytes."""
POLL_INTERVAL_SECONDS = 0.05
RETRY_SECONDS = 0.02
"""The time between two writes to a non-blocking terminal that accepts no bytes."""


class Terminal:
    """Writes to descriptors, in the order of the calls. `write` never blocks. `room`: the size of the queue in bytes.
    """

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
        """Append all of the data to the queue, or drop all of it."""
        with self._changed:
            # Data longer than the whole queue is accepted if the queue is empty; otherwise it could never be written.
            if self._size and self._size + len(data) > self._room:
                self._dropped += max(1, data.count(b"\n"))
                return
            self._queue(fd, data)

    def close(self, timeout: float = STALLED_SECONDS) -> None:
        """Wait until the queue is empty, or until the terminal has accepted no bytes for `timeout` seconds."""
        with self._changed:
            self._over = True
            self._progress = time.monotonic()
            self._changed.notify_all()
            while self._waiting and time.monotonic() - self._progress < timeout:
                self._changed.wait(POLL_INTERVAL_SECONDS)

    def hold(self, timeout: float = STALLED_SECONDS) -> None:
        """Write the queue, as `close` does, and then nothing until `resume`."""
        with self._changed:
            self._progress = time.monotonic()
            while self._waiting and time.monotonic() - self._progress < timeout:
                self._changed.wait(POLL_INTERVAL_SECONDS)
            self._held = True

    def resume(self) -> None:
        """Continue to write."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def _queue(self, fd: int, data: bytes) -> None:
        self._waiting.append((fd, data))
        self._size += len(data)
        self._changed.notify_all()

    def _run(self) -> None:
        # All signals are blocked: the main thread handles them. With SIGTTOU blocked, a background process may also
        # write to a terminal with `stty tostop` (termios(3)).
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (first := self._next()) is not None:
            fd, data = first
            while data:
                try:
                    data = data[os.write(fd, data) :]
                except BlockingIOError:
                    # Another process that shares the terminal has made it non-blocking.
                    time.sleep(RETRY_SECONDS)
                    continue
                except OSError:
                    # The terminal was closed. The server log has the line.
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
                notice = f"appsrv: {self._dropped} lines dropped: the terminal is not reading. They are in the log.\n"
                self._dropped = 0
                self._queue(fd, notice.encode())
            self._changed.notify_all()


class Stream(io.TextIOBase):
    """A text stream that replaces `original`, with the same encoding and descriptor, and writes through `Terminal`."""

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
        # A character that the terminal's encoding lacks is escaped: an exception would end the process.
        self._terminal.write(self.fileno(), text.encode(self.encoding, "backslashreplace"))
        return len(text)


class _Bytes(io.RawIOBase):
    """A stream of bytes that writes to a descriptor through `Terminal`."""

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
    """Open /dev/null as each standard descriptor that is closed, so that no other file gets the number 0, 1 or 2."""
    # open(2) returns the lowest number that is free.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))


@contextlib.contextmanager
def nonblocking_output() -> Iterator[Terminal | None]:
    """Within this context, `sys.stdout` and `sys.stderr` never block on a terminal or a pipe. Yields their `Terminal`.

    Yields None if both are regular files, which never block.
    """
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
    # If the process was started with a stream closed, Python has set it to None.
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return cast("TextIO", Stream(terminal, stream))


def _may_block(stream: object) -> bool:
    """Whether a write can block: every stream but a regular file."""
    return isinstance(stream, io.TextIOWrapper) and not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
