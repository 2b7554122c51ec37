"""The terminal for a debugger in a worker: `breakpoint()`, pdb, and other code that reads from the standard input.

A worker runs in the background. The watchdog lends it the terminal (`terminal_lender`) when something is to be read,
until the debugger continues or quits or the request ends. Meanwhile descriptors 0 and 1 are the terminal, so that line
editing works. What other threads print goes to the log as before. Ctrl-C gives the terminal back: the debugger then
reads the end of its input.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any

from appsrv.app_process import own_lines, own_signals
from appsrv.ipc.request_counts import Tally
from appsrv.ipc.scoreboard import Cell, Slot
from appsrv.system import unpatched
from appsrv.worker.connection_handler import ConnectionHandler, HandlerOptions
from appsrv.worker.labelled_output import Labels
from appsrv.worker.ready_queue import Connection, ReadyQueue

# Sent to a thread to interrupt its system call. By default it has no effect, and hardly any application uses it. It is
# not SIGINT: Python would call the handler of Ctrl-C once more, some time later in the main thread. By then the next
# request may have the terminal, and that call would take it away.
_INTERRUPTING = signal.SIGURG


class DebuggerTerminal:
    """`path`: the lender's socket. All threads of the process share one terminal."""

    def __init__(self, path: str, slot: Slot) -> None:
        self._path = path
        self._slot: Slot | None = slot
        self._holder: int | None = None
        self._thread = 0
        self._connection: socket.socket | None = None
        self._own: list[int] = []
        self._input_ended = False
        self._undivided: tuple[io.TextIOWrapper, Any] | None = None

    def install(self) -> None:
        """Let this process borrow the terminal from now on. To be called by the main thread."""
        if os.isatty(0):
            # A background process cannot read from the terminal, so that its standard input is empty, as a daemon's is.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.close(null)
        with contextlib.suppress(OSError):
            # The application may have closed descriptor 0. Its standard input is then left as it is.
            sys.stdin = _Stdin(self)
        if self.exists:
            own_signals.handle(signal.SIGINT, self._interrupt)
            own_signals.handle(_INTERRUPTING, _do_nothing)
            own_signals.neutralize(signal.SIGTSTP)
            self._watch_debuggers()

    @property
    def exists(self) -> bool:
        """Whether there is a terminal to borrow."""
        return os.path.exists(self._path)

    def take(self) -> bool:
        """Borrow the terminal, and wait for it; False when there is none, or when it cannot be had."""
        if self._holder == threading.get_ident():
            return True
        terminal = self._receive_terminal() if self.exists else None
        if terminal is None:
            if os.path.samestat(os.fstat(0), os.stat(os.devnull)):
                own_lines.complain(
                    "there is no terminal to read from, so its input is at its end: a debugger needs a "
                    "development server in the foreground of a terminal"
                )
            return False
        own_lines.flush()
        self._own = [os.dup(0), os.dup(1)]
        self._input_ended = False
        # With gevent the holder is a greenlet, of which several run in one thread.
        self._holder, self._thread = threading.get_ident(), unpatched.get_ident()
        self._set_at_terminal(at_terminal=True)
        self._divide_output(os.dup(1))
        for number in (0, 1):
            os.dup2(terminal, number)
        os.close(terminal)
        # Without it, input() neither edits nor remembers lines, and writes its prompt to descriptor 2.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
        return True

    def _set_at_terminal(self, *, at_terminal: bool) -> None:
        """Tell the scoreboard. A child process, which may borrow the terminal as well, has no slot."""
        if self._slot is not None:
            self._slot.at_terminal = at_terminal

    def _receive_terminal(self) -> int | None:
        connection = unpatched.without_timeout(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            connection.connect(self._path)
            answer, fds, _, _ = socket.recv_fds(connection, 1, 1)
        except OSError:
            answer, fds = b"", []
        if not answer:
            connection.close()
            return None
        self._connection = connection
        return fds[0]

    def give_back(self) -> None:
        """Give the terminal back to the watchdog."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        own_lines.flush()
        self._holder = None
        self._unite_output()
        self._restore()
        self._set_at_terminal(at_terminal=False)
        connection.close()

    def close_in_child(self) -> None:
        """In a child of this process: give up the loan, which is the parent's. It would otherwise last as long as the
        child.
        """
        self._slot = None
        connection, self._connection = self._connection, None
        self._holder = None
        if connection is None:
            return
        connection.close()
        self._unite_output()
        self._restore()

    def _restore(self) -> None:
        for number, own in enumerate(self._own):
            os.dup2(own, number)
            os.close(own)

    def request_over(self) -> None:
        """This thread has answered its request: give back the terminal that it holds."""
        if self._holder == threading.get_ident():
            self.give_back()

    # -- what is printed meanwhile ------------------------------------------------------------------------------------

    def _divide_output(self, pipe: int) -> None:
        """Have the holder's output written to the terminal, and that of other threads to where it went before."""
        stream, holder = sys.stdout, self._holder
        encoding = getattr(stream, "encoding", None) or "utf-8"
        self._usual = os.fdopen(pipe, "w", buffering=1, encoding=encoding, errors="backslashreplace")
        self._undivided = None
        if not isinstance(stream, io.TextIOWrapper):
            return
        self._undivided = stream, vars(stream).get("write")
        put = functools.partial(io.TextIOWrapper.write, stream)
        others = self._usual.write if self._undivided[1] is None else Labels(self._usual).write

        def write(text: str) -> int:
            return put(text) if threading.get_ident() == holder else others(text)

        stream.write = write  # type: ignore[method-assign]

    def _unite_output(self) -> None:
        if self._undivided is not None:
            stream, write = self._undivided
            if write is not None:
                stream.write = write  # type: ignore[method-assign]
            else:
                vars(stream).pop("write", None)
        self._usual.close()

    # -- when it begins and ends --------------------------------------------------------------------------------------

    def _watch_debuggers(self) -> None:
        """Have pdb, and all that derive from it, borrow the terminal before they print, and give it back at the end."""
        import bdb

        begin, trace, go_on, leave = bdb.Bdb.__init__, bdb.Bdb.set_trace, bdb.Bdb.set_continue, bdb.Bdb.set_quit

        @functools.wraps(begin)
        def made(debugger: bdb.Bdb, *arguments: Any, **named: Any) -> None:
            self.take()
            begin(debugger, *arguments, **named)

        @functools.wraps(trace)
        def set_trace(debugger: bdb.Bdb, frame: FrameType | None = None) -> None:
            self.take()
            trace(debugger, frame or sys._getframe(1))

        @functools.wraps(go_on)
        def set_continue(debugger: bdb.Bdb) -> None:
            go_on(debugger)
            if threading.current_thread() is threading.main_thread():
                # pdb has set its own handler of SIGINT.
                own_signals.handle(signal.SIGINT, self._interrupt)
            self.request_over()

        @functools.wraps(leave)
        def set_quit(debugger: bdb.Bdb) -> None:
            leave(debugger)
            self.request_over()

        changed = {"__init__": made, "set_trace": set_trace, "set_continue": set_continue, "set_quit": set_quit}
        for name, method in changed.items():
            setattr(bdb.Bdb, name, method)

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """Ctrl-C reaches the main thread, whichever thread holds the terminal: the holder's input is at its end.

        A debugger then quits, and its end gives the terminal back; a second Ctrl-C gives it back at once. The first one
        must not: another request that waits for the terminal would put it on descriptor 0 before the holder has left
        its read. The holder would then go on reading from it, with the lock of `readline`, and both would wait without
        end.
        """
        holder, thread = self._holder, self._thread
        if holder is None:
            return
        if self._input_ended:
            self.give_back()
        else:
            self._input_ended = True
            os.dup2(self._own[0], 0)
        if thread != unpatched.get_ident():
            # This interrupts the read of the thread that holds the terminal, which then reads from the usual input.
            signal.pthread_kill(thread, _INTERRUPTING)


def _do_nothing(_signal: int, _frame: FrameType | None) -> None:
    """The handler of _INTERRUPTING: the system call is interrupted, since there is a handler."""


class _Stdin(io.TextIOWrapper):
    """The standard input, which borrows the terminal before something is read."""

    def __init__(self, terminal: DebuggerTerminal) -> None:
        encoding = getattr(sys.stdin, "encoding", None) or "utf-8"
        super().__init__(io.BufferedReader(io.FileIO(0, "r", closefd=False)), encoding=encoding, errors="replace")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal.exists or super().isatty()

    def fileno(self) -> int:
        # The built-in input() calls this first, and decides by the answer how to read.
        self._terminal.take()
        return 0

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        self._terminal.take()
        return super().readline(size)

    def read(self, size: int | None = -1, /) -> str:
        self._terminal.take()
        return super().read(size)


class TerminalConnectionHandler(ConnectionHandler):
    """A handler in a worker that may have the terminal: it gives the terminal back at the end of a request."""

    def __init__(
        self, options: HandlerOptions, queue: ReadyQueue, cell: Cell, tally: Tally | None = None, *,
        terminal: DebuggerTerminal,
    ) -> None:
        super().__init__(options, queue, cell, tally)
        self._terminal = terminal

    def serve(self, connection: Connection, now: float) -> None:
        """As `ConnectionHandler.serve`."""
        super().serve(connection, now)
        self._terminal.request_over()
