"""The upstream process of a worker of a generic application: its start, its supervision, and its end with the worker.

A shell runs the operator's `start_command` in the application's directory and in the worker's process group. The
command reads its address from $PORT, or from $SOCKET if it mentions that. When the process ends, its worker ends with
the same exit status or signal, so that the worker's reported cause of death is that of the process. This module knows
processes and addresses, not requests.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping

import gevent
from gevent import subprocess
from gevent.event import Event

from appsrv.app_process import own_lines
from appsrv.errors import NotStarted
from appsrv.generic.connection_pool import UpstreamAddress, UpstreamConnections
from appsrv.generic.websocket_relay import Relays
from appsrv.system import process_group
from appsrv.system.exit_status import cause_of_death

SHELL = "/bin/sh"
POLL_SECONDS = 0.01
MAX_POLL_SECONDS = 0.1
# The time in which the end of the process is noticed after its connection has ended. If the process has not ended by
# then, it has closed only the connection.
EXIT_DETECTION_SECONDS = 0.25
# The time for reading the responses of a process that has ended. They lie in the socket buffers of this machine.
DRAIN_SECONDS = 1.0
# The time from SIGTERM to SIGKILL for the process, at most; it begins when no request is left.
TERM_SECONDS = 10.0
# The same for the other processes of the group where the process has used up its own time, and the time to wait for
# their end after SIGKILL.
GROUP_TERM_SECONDS, GROUP_KILL_SECONDS = 0.1, 1.0
# These ports lie below those of outgoing connections (ip_local_port_range in ip(7)). A connection could otherwise take
# the port before the process listens on it.
PORT_RANGE = range(20_000, 32_768)
_SOCKET = re.compile(r"\$SOCKET\b|\$\{SOCKET\b")
# Syntax of the shell for several commands, or for a command that is not a program.
_COMPOUND = re.compile(r"[;&|()`\n]|^\s*[!{]")
_SHELL_BUILTINS = frozenset(
    {
        *("exec", "cd", ".", "source", "export", "unset", "set", "eval", "trap", "ulimit", "umask"),
        *("if", "for", "while", "until", "case"),
    }
)
_MAX_SHOWN_CHARACTERS = 80


def wants_socket(command: str) -> bool:
    """Whether the command listens on a unix socket: it mentions $SOCKET."""
    return _SOCKET.search(command) is not None


def shell_line(command: str) -> str:
    """The line for the shell. A single command replaces the shell by exec, so that signals reach the command itself.

    Its exit status then is the status of the process, too.
    """
    first = command.split()[0] if command.split() else ""
    single = first and first not in _SHELL_BUILTINS and "=" not in first and not _COMPOUND.search(command)
    return f"exec {command.strip()}" if single else command


def shown(command: str) -> str:
    """The command as it appears in log lines: one line, shortened."""
    line = " ".join(command.split())
    return line if len(line) <= _MAX_SHOWN_CHARACTERS else f"{line[: _MAX_SHOWN_CHARACTERS - 3]}..."


class UpstreamProcess:
    """One command; `start` runs it, in the worker.

    `root`: its working directory. `directory`: for its unix socket. `start_timeout`: seconds from the start until it
    listens. `stop_timeout`: seconds from the worker's order to stop until its end.
    """

    def __init__(
        self, command: str, *, root: str, directory: str, environ: Mapping[str, str], start_timeout: float,
        stop_timeout: float,
    ) -> None:
        self.command = shown(command)
        self.relays = Relays()
        self.connections: UpstreamConnections
        self._line = command
        self._root = root
        self._directory = directory
        self._environ = environ
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._address: UpstreamAddress
        self._claim: socket.socket | None = None
        self._process: subprocess.Popen[bytes]
        self._ended = Event()
        self._stopping = False
        self._retired_at = 0.0

    # -- the beginning ------------------------------------------------------------------------------------------------

    def start(self, unwanted: Callable[[], bool], ended: Callable[[], None]) -> bool:
        """Run the command and wait until it accepts connections.

        False: `unwanted` returned true meanwhile, and the process was ended. Raises `NotStarted`. After the start this
        worker ends when the process ends, and calls `ended` before.
        """
        process_group.lead()
        self._address = self._new_address()
        self.connections = UpstreamConnections(self._address)
        # A little less than the server's own time limit, so that this error is reported, which names the cause.
        deadline = time.monotonic() + self._start_timeout - min(1.0, self._start_timeout / 10)
        self._process = subprocess.Popen(
            [SHELL, "-c", shell_line(self._line)], cwd=self._root, env={**self._environ, **self._address.variables},
            stdin=subprocess.DEVNULL, close_fds=True, preexec_fn=_default_signals,
        )
        gevent.spawn(self._watch)
        if not self._wait_until_it_listens(deadline, unwanted):
            self.stop()
            return False
        gevent.spawn(self._end_worker_after_it, ended)
        return True

    def _wait_until_it_listens(self, deadline: float, unwanted: Callable[[], bool]) -> bool:
        pause = POLL_SECONDS
        while not self._takes_connections():
            if self._ended.wait(pause):
                raise NotStarted(f"{self._name} ended before it took connections: {self._cause}", ended=True)
            if unwanted():
                return False
            if time.monotonic() > deadline:
                self.stop()
                raise NotStarted(
                    f"{self._name} did not listen on {self._address_variable} within start_timeout "
                    f"({self._start_timeout:g} s): the command has to take its "
                    f"{'socket' if self._address.path else 'port'} from there",
                    ended=False,
                )
            pause = min(pause * 1.2, MAX_POLL_SECONDS)
        return True

    def _new_address(self) -> UpstreamAddress:
        if wants_socket(self._line):
            address = UpstreamAddress(path=os.path.join(self._directory, f"{os.getpid()}.sock"))
            address.remove()
            return address
        port, self._claim = free_port()
        return UpstreamAddress(port=port)

    def _takes_connections(self) -> bool:
        try:
            self._address.connect(timeout=1.0).close()
        except OSError:
            return False
        return not self._ended.is_set()

    @property
    def _name(self) -> str:
        return f"the application ({self.command})"

    @property
    def _cause(self) -> str:
        """The cause of the process's end, in words."""
        code = self._process.returncode
        return cause_of_death(code << 8 if code >= 0 else -code)

    @property
    def _address_variable(self) -> str:
        return f"$SOCKET ({self._address})" if self._address.path else f"$PORT ({self._address.port})"

    # -- its life -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """The greenlet that waits for the end of the process."""
        self._process.wait()
        self._ended.set()

    def _end_worker_after_it(self, ended: Callable[[], None]) -> None:
        self._ended.wait()
        if not self._stopping:
            own_lines.complain(f"{self._name} ended: {self._cause}")
            self.connections.drain(DRAIN_SECONDS)
            ended()
            self.end_worker_like_it()

    def end_worker_like_it(self) -> None:
        """End this worker with the exit status or the signal of the process."""
        with contextlib.suppress(Exception):
            self._address.remove()
        own_lines.flush()
        code = self._process.returncode
        if code < 0:
            # The worker sends itself the signal that has ended the process, with the signal's default action, so that
            # waitpid(2) of its parent reports that signal.
            _without_core()
            with contextlib.suppress(OSError, ValueError):
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code if code > 0 else 0)

    def wait_for_end(self) -> None:
        """Wait briefly for the end of the process. If it ends, this never returns, because this worker ends with it."""
        if self._ended.wait(EXIT_DETECTION_SECONDS) and not self._stopping:
            Event().wait()

    # -- the end ------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """The worker takes no more requests: end the upgraded connections, which are no requests any more."""
        self._retired_at = self._retired_at or time.monotonic()
        self.relays.end()

    def stop(self) -> None:
        """End the process and all processes that it has started: SIGTERM first, then SIGKILL."""
        self._stopping = True
        self.connections.close()
        seconds_to_kill = self._seconds_to_kill()
        due = time.monotonic() + seconds_to_kill
        if not self._ended.is_set():
            self._process.send_signal(signal.SIGTERM)
            self._ended.wait(seconds_to_kill)
        if not self._ended.is_set():
            own_lines.complain(f"{self._name} did not end within {seconds_to_kill:.1f} s of SIGTERM and is killed")
            self._process.kill()
            self._ended.wait(TERM_SECONDS)
        if not self._end_the_group(signal.SIGTERM, max(due, time.monotonic() + GROUP_TERM_SECONDS)):
            self._end_the_group(signal.SIGKILL, time.monotonic() + GROUP_KILL_SECONDS)
        self._address.remove()

    def _seconds_to_kill(self) -> float:
        """The seconds from SIGTERM to SIGKILL: less than the server waits for this worker."""
        since = self._retired_at or time.monotonic()
        left = self._stop_timeout - (time.monotonic() - since)
        return max(0.1, min(TERM_SECONDS, left - min(1.0, self._stop_timeout / 10)))

    def _end_the_group(self, number: int, due: float) -> bool:
        """Send a signal to the other processes of the group and wait until `due`; whether all have ended.

        A shell ends at once on SIGTERM and leaves the processes that it has started. They have the rest of its time.
        """
        own_pid = os.getpid()
        for pid in process_group.others(own_pid):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        while left := process_group.others(own_pid):
            if time.monotonic() >= due:
                break
            gevent.sleep(POLL_SECONDS)
        return not left


def free_port() -> tuple[int, socket.socket | None]:
    """A free TCP port, and a socket that reserves it among the workers of this machine while it is open.

    Without that reservation another worker could choose the same port before this worker's process listens on it. One
    of the two workers would then take the other's process for its own. None: the reservation was not possible, and the
    kernel has chosen the port.
    """
    for port in random.sample(PORT_RANGE, min(50, len(PORT_RANGE))):
        claim = _claimed(port)
        if claim is not None:
            # Between this check and the process's own bind(2) a program outside of appsrv could take the port. Servers
            # end when they cannot bind, and then the worker ends, too.
            if _is_free(port):
                return port, claim
            claim.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1], None


def _claimed(port: int) -> socket.socket | None:
    """A socket that reserves the port; None if another worker has reserved it.

    The reservation is a name in Linux's abstract socket namespace (unix(7)). Like ports, such names belong to a network
    namespace, and they vanish with their socket. Other systems have no such names, and reserve nothing.
    """
    claim = socket.socket(socket.AF_UNIX)
    if sys.platform == "linux":
        try:
            claim.bind(f"\0appsrv-port-{port}")
        except OSError:
            claim.close()
            return None
    return claim


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _default_signals() -> None:
    """Reset the signals that a worker ignores: execve(2) keeps ignored signals ignored in the new program."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _without_core() -> None:
    """Prevent a core dump of this worker; only that of the process itself shows the cause."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


