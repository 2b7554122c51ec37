"""Starts the processes of an instance: each in a process group of its own, its output on pipes to the watchdog.

Knows interpreters, descriptors and environments. The watchdog decides which process to start, and sends messages to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from appsrv.ipc import channel as channels
from appsrv.ipc.channel import Channel
from appsrv.logs.server_log import ServerLog
from appsrv.settings import internal_variables
from appsrv.system import interpreter_flags
from appsrv.watchdog.child_records import GroupRecord
from appsrv.watchdog.output_collector import Collector
from appsrv.watchdog.standby import Launched


@dataclass(frozen=True)
class Development:
    """What makes an instance a development server: the command that is run again as its preloader."""

    argv: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


class Spawner:
    """Starts processes. All of them get the environment `environ`; `output` reads what they print."""

    def __init__(self, environ: Mapping[str, str], output: Collector) -> None:
        self._environ = environ
        self._output = output

    def module(
        self, module: str, fds: Sequence[socket.socket], environ: Mapping[str, str], *, log: ServerLog | None = None
    ) -> int:
        """Start `main` of a module of appsrv with the numbers of these descriptors; returns the pid. Raises OSError.

        `log` receives the output of an application; it is None for the server process.
        """
        flags = interpreter_flags.for_own_process() if log is None else interpreter_flags.for_application()
        code = interpreter_flags.code_for(f"appsrv.{module}.process", "*map(int, sys.argv[1:])")
        argv = [sys.executable, *flags, "-c", code, *(str(sock.fileno()) for sock in fds)]
        return self.command(argv, fds, environ, log=log)

    def command(
        self, argv: Sequence[str], fds: Sequence[socket.socket], environ: Mapping[str, str], *,
        log: ServerLog | None = None,
    ) -> int:
        """Start a command that inherits these descriptors; returns the pid. Raises OSError.

        `environ` is added to the environment of all processes. `log` receives the output of an application; it is None
        for the server process.
        """
        out, err = _two_pipes()
        # Inheritable only between here and posix_spawn(3). The watchdog has one thread and starts one process at a
        # time, so that no other child can inherit these descriptors.
        for sock in fds:
            os.set_inheritable(sock.fileno(), True)
        # Ignored and blocked signals pass through execve(2). Python ignores SIGPIPE and SIGXFSZ, and the watchdog
        # blocks the signals that it reads from a signalfd. posix_spawn(3) resets both in the child before the exec, and
        # keeps signals from running the watchdog's handlers there in between.
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


class PreloaderSpawner:
    """Starts preloaders: `main` of the module `preloader`, or the framework's own command in a development server."""

    def __init__(self, spawner: Spawner, development: Development | None) -> None:
        self._spawner = spawner
        self._development = development

    def start(self, group: GroupRecord, *, number: int, standby: str) -> Launched:
        """Start a preloader of this group. Raises OSError.

        A development server's preloader finds in its environment which one it is, `number`, and whether it is a
        standby preloader: `standby.WAIT` or `standby.GO`.
        """
        server_end, preloader_end = channels.pair()
        ours, theirs = channels.pair()
        fds = [preloader_end, theirs]
        environ = _environment_of(group)
        with contextlib.closing(preloader_end), contextlib.closing(theirs), closing_on_error(ours, server_end):
            if self._development is None:
                pid = self._spawner.module("preloader", fds, environ, log=group.log)
            else:
                environ |= self._development.environ
                environ[internal_variables.BOOT] = str(number)
                environ[internal_variables.PRELOADER] = ",".join(str(sock.fileno()) for sock in fds)
                environ[internal_variables.STANDBY] = standby
                pid = self._spawner.command(self._development.argv, fds, environ, log=group.log)
        return Launched(pid, Channel(ours), server_end)


def _environment_of(group: GroupRecord) -> dict[str, str]:
    settings, variables = group.group.settings, group.group.variables
    environ = {"PYTHONUNBUFFERED": "1", internal_variables.ENVIRONMENT: settings.environment, **variables}
    if group.multiproc:
        environ["PROMETHEUS_MULTIPROC_DIR"] = group.multiproc
    if group.identity is not None:
        environ |= group.identity.variables
    return environ


@contextlib.contextmanager
def closing_on_error(*sockets: socket.socket) -> Iterator[None]:
    """Close these sockets when the block fails: no process has their other ends."""
    try:
        yield
    except BaseException:
        for sock in sockets:
            sock.close()
        raise


def _two_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    out = os.pipe()
    try:
        return out, os.pipe()
    except OSError:
        channels.close_all(out)
        raise
