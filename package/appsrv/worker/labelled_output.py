"""Standard output and error of a worker, with a label on each line that names the request it was printed for.

The stream objects stay the same: what holds them (logging handlers, `wsgi.errors`) is labelled, too, and their
properties (`isatty`, `fileno`, `encoding`, `buffer`) do not change. The request is looked for only when something is
printed, in the frame of the thread or greenlet that calls the application. A request that prints nothing pays nothing.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

from appsrv.app_process import own_lines
from appsrv.logs.line_labels import going_on, harmless, harmless_behind_nul, label_of, labelled
from appsrv.wsgi.request_id import KEY
from appsrv.wsgi.run import respond

# An unfinished line is kept back up to this number of characters.
PIECE = 8192
_CALLS_APPLICATION = respond.__code__


def label_output(streams: Iterable[io.TextIOWrapper], *, live: bool = False) -> None:
    """Label what is printed to these streams from now on. `live`: show progress bars on a terminal at once."""
    for stream in streams:
        labels = Labels(stream, live=live)
        # print(), logging and others look the method up in the object first.
        stream.write = labels.write  # type: ignore[method-assign]
        stream.flush = labels.flush  # type: ignore[method-assign]


def guard_output(streams: Iterable[io.TextIOWrapper]) -> None:
    """Without labels, prevent that what is printed to these streams can be taken for a label or an access line."""
    for stream in streams:
        stream.write = Guard(stream).write  # type: ignore[method-assign]


def finish_output() -> None:
    """Write what is still kept back, before the process ends without the interpreter's own end."""
    for stream in own_lines.standard_streams():
        # The stream is the application's object, which may raise anything.
        with contextlib.suppress(Exception):
            labels = getattr(stream.write, "__self__", None)
            if isinstance(labels, Labels):
                labels.finish()
    own_lines.flush()


def forget_pieces() -> None:
    """In a child: drop what is kept back, which its parent writes."""
    for stream in own_lines.standard_streams():
        with contextlib.suppress(Exception):
            labels = getattr(stream.write, "__self__", None)
            if isinstance(labels, Labels):
                labels.forget()


def present_label(frame: FrameType | None) -> str:
    """The label of the request that this frame works for; empty where there is none."""
    while frame is not None:
        if frame.f_code is _CALLS_APPLICATION:
            environ = frame.f_locals["environ"]
            given = environ.get(KEY) or "-", environ.get("REQUEST_METHOD"), environ.get("REQUEST_URI")
            return label_of(*map(str, given))
        frame = frame.f_back
    return ""


class Labels:
    """Writes whole lines to a stream as far as possible: the unfinished line of each thread is kept until its end."""

    def __init__(self, stream: io.TextIOWrapper, *, live: bool = False) -> None:
        self._live = live
        self._put = stream.write
        self._send = stream.flush
        # By thread, the label and the text of its unfinished line.
        self._pieces: dict[int, tuple[str, str]] = {}
        # The thread and the label of an unfinished line that was written last.
        self._open: tuple[int, str] | None = None

    def write(self, text: Any) -> int:
        """As `TextIOBase.write`."""
        if not isinstance(text, str):
            return self._put(text)
        # Not `_getframe(1)`, which fails when the interpreter itself writes the traceback that ends the process.
        me, label = threading.get_ident(), present_label(sys._getframe().f_back)
        before, piece = self._pieces.pop(me, ("", ""))
        if piece and before != label:
            self._put_labelled(me, before, piece)
            piece = ""
        # The characters that begin a label may come in two calls.
        whole = piece[:-1] + harmless("\0" + text) if piece.endswith("\0") else piece + harmless(text)
        # Python flushes a line-buffered stream at a carriage return, too.
        at_once = len(whole) > PIECE or (self._live and "\r" in text)
        end = len(whole) if at_once else whole.rfind("\n") + 1
        if end:
            self._put_labelled(me, label, whole[:end])
        if end < len(whole):
            self._pieces[me] = label, whole[end:]
        return len(text)

    def flush(self) -> None:
        """As `TextIOBase.flush`: write this thread's unfinished line; at the end of the process all threads'."""
        self._put_pieces(list(self._pieces) if sys.is_finalizing() else [threading.get_ident()])
        self._send()

    def finish(self) -> None:
        """Write the unfinished lines of all threads."""
        self._put_pieces(list(self._pieces))

    def forget(self) -> None:
        """Drop the unfinished lines of all threads."""
        self._pieces.clear()

    def _put_pieces(self, threads: list[int]) -> None:
        for thread in threads:
            label, piece = self._pieces.pop(thread, ("", ""))
            if piece:
                self._put_labelled(thread, label, piece)

    def _put_labelled(self, thread: int, label: str, text: str) -> None:
        if text.endswith("\0"):
            # The next write to the pipe may be by another process, and may complete the characters that begin a label.
            text = text[:-1] + "\\x00"
        mine, opened = (thread, label), self._open
        self._open = None if text.endswith("\n") else mine
        if opened == mine:
            self._put(going_on(text))
        else:
            self._put(labelled(label, text, breaks=opened is not None))


class Guard:
    """Writes text to a stream as it comes, changed so that it cannot be taken for a label."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._put = stream.write
        # Whether the last character written is a NUL.
        self._nul = False

    def write(self, text: Any) -> int:
        """As `TextIOBase.write`."""
        if not isinstance(text, str) or not text or not (self._nul or "\0" in text):
            return self._put(text)
        behind, self._nul = self._nul, text.endswith("\0")
        self._put(harmless_behind_nul(text) if behind else harmless(text))
        return len(text)
