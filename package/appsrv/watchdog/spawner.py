"""Starts the processes of an instance: each in a process group of its own, its output on pipes to the watchdog.

Knows interpreters, descriptors and environments; which process is wanted, and what is said to it, is the watchdog's
business.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

from appsrv.ipc import channel as channels
from appsrv.logs.server_log import ServerLog
from appsrv.system import interpreter_flags
from appsrv.watchdog.output_collector import Collector

# The application's directory must not be able to shadow a module of ours or of the library.
_BOOT = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from appsrv.{0}.process import main; main(*map(int, sys.argv[1:]))"
)


class Spawner:
    """`environ` is what all processes get, `output` reads what they print."""

    def __init__(self, environ: Mapping[str, str], output: Collector) -> None:
        self._environ = environ
        self._output = output

    def module(
        self, module: str, fds: Sequence[socket.socket], environ: Mapping[str, str], *, log: ServerLog | None = None
    ) -> int:
        """Start `main` of one of our modules, with the numbers of these descriptors; the pid. Raises OSError.

        `log` is where an application's output goes; None for the server process.
        """
        flags = interpreter_flags.for_own_process() if log is None else interpreter_flags.for_application()
        argv = [sys.executable, *flags, "-c", _BOOT.format(module), *(str(sock.fileno()) for sock in fds)]
        return self.command(argv, fds, environ, log=log)

    def command(
        self, argv: Sequence[str], fds: Sequence[socket.socket], environ: Mapping[str, str], *,
        log: ServerLog | None = None,
    ) -> int:
        """Start a command that inherits these descriptors; the pid. Raises OSError.

        `environ` is added to that of all, `log` is where an application's output goes; None for the server process.
        """
        out, err = _two_pipes()
        for sock in fds:
            os.set_inheritable(sock.fileno(), True)
        actions = [(os.POSIX_SPAWN_DUP2, out[1], 1), (os.POSIX_SPAWN_DUP2, err[1], 2)]
        try:
            pid = os.posix_spawn(
                argv[0], list(argv), {**self._environ, **environ}, file_actions=actions, setpgroup=0,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ], setsigmask=[],
            )
        except OSError:
            channels.close_all((out[0], err[0]))
            raise
        finally:
            for sock in fds:
                os.set_inheritable(sock.fileno(), False)
            channels.close_all((out[1], err[1]))
        self._output.collect(pid, (out[0], err[0]), log)
        return pid


def _two_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    out = os.pipe()
    try:
        return out, os.pipe()
    except OSError:
        channels.close_all(out)
        raise
