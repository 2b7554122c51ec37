"""The process behind a worker of a generic application: started, waited for, watched, and ended with its worker.

The command is the operator's and runs in a shell, in the application's directory, in the worker's process group. It is
told where to listen ($PORT, or $SOCKET where the command mentions that). When it ends, its worker ends in the same way,
so that whoever asks after the worker is told the truth. Knows processes and places, no requests.
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
from appsrv.generic.connection_pool import Place, UpstreamConnections
from appsrv.generic.websocket_relay import Relays
from appsrv.system import process_group
from appsrv.system.exit_status import cause_of_death

SHELL = "/bin/sh"
POLL = 0.01
SLOWEST_POLL = 0.1
# How long a connection may have been dead before it is believed that the process lives on.
SETTLES = 0.25
# How long what it has sent before its end is read and passed on: it lies in this machine's buffers.
DRAINS = 1.0
# Seconds after SIGTERM, once no request is left.
GOES_WITHIN = 10.0
# For what it has started, where it has used up its own time, and once that is killed.
MOMENT, KILLED_WITHIN = 0.1, 1.0
# Below what systems give to outgoing connections (ip_local_port_range), which could take it in between.
PORTS = range(20_000, 32_768)
_SOCKET = re.compile(r"\$SOCKET\b|\$\{SOCKET\b")
# More than one command, or what is no command of a program's.
_SEVERAL = re.compile(r"[;&|()`\n]|^\s*[!{]")
_NO_PROGRAMS = frozenset(
    {
        *("exec", "cd", ".", "source", "export", "unset", "set", "eval", "trap", "ulimit", "umask"),
        *("if", "for", "while", "until", "case"),
    }
)
_SHOWN = 80


def wants_socket(command: str) -> bool:
    """Whether the command listens on a unix socket: it mentions $SOCKET."""
    return _SOCKET.search(command) is not None


def shell_line(command: str) -> str:
    """What the shell is given: a single command takes its place, so that signals and ends are the command's own."""
    first = command.split()[0] if command.split() else ""
    single = first and first not in _NO_PROGRAMS and "=" not in first and not _SEVERAL.search(command)
    return f"exec {command.strip()}" if single else command


def shown(command: str) -> str:
    """The command as log lines name it: one line, not too long."""
    line = " ".join(command.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


class UpstreamProcess:
    """One command; `start` runs it, in the worker.

    `directory` is where unix sockets go. `start_timeout` and `stop_timeout` in seconds: until it listens, and from the
    order to leave to the end.
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
        self._place: Place
        self._claim: socket.socket | None = None
        self._process: subprocess.Popen[bytes]
        self._ended = Event()
        self._leaving = False
        self._leaving_since = 0.0

    # -- the beginning ------------------------------------------------------------------------------------------------

    def start(self, unwanted: Callable[[], bool], ended: Callable[[], None]) -> bool:
        """Run the command and wait until it takes connections; False when it became `unwanted` before, and has ended.

        Raises NotStarted. From then on this process ends when the other one does, after it has called `ended`.
        """
        process_group.lead()
        self._place = self._new_place()
        self.connections = UpstreamConnections(self._place)
        # A little less than the server would wait: who ends it should say what for.
        deadline = time.monotonic() + self._start_timeout - min(1.0, self._start_timeout / 10)
        self._process = subprocess.Popen(
            [SHELL, "-c", shell_line(self._line)], cwd=self._root, env={**self._environ, **self._place.variables},
            stdin=subprocess.DEVNULL, close_fds=True, preexec_fn=_default_signals,
        )
        gevent.spawn(self._watch)
        if not self._wait_until_it_listens(deadline, unwanted):
            self.stop()
            return False
        gevent.spawn(self._end_with_it, ended)
        return True

    def _wait_until_it_listens(self, deadline: float, unwanted: Callable[[], bool]) -> bool:
        pause = POLL
        while not self._takes_connections():
            if self._ended.wait(pause):
                raise NotStarted(f"{self._who} ended before it took connections: {self._how}", ended=True)
            if unwanted():
                return False
            if time.monotonic() > deadline:
                self.stop()
                raise NotStarted(
                    f"{self._who} did not listen on {self._told} within start_timeout ({self._start_timeout:g} s): "
                    f"the command has to take its {'socket' if self._place.path else 'port'} from there",
                    ended=False,
                )
            pause = min(pause * 1.2, SLOWEST_POLL)
        return True

    def _new_place(self) -> Place:
        if wants_socket(self._line):
            place = Place(path=os.path.join(self._directory, f"{os.getpid()}.sock"))
            place.forget()
            return place
        port, self._claim = free_port()
        return Place(port=port)

    def _takes_connections(self) -> bool:
        try:
            self._place.connect(timeout=1.0).close()
        except OSError:
            return False
        return not self._ended.is_set()

    @property
    def _who(self) -> str:
        return f"the application ({self.command})"

    @property
    def _how(self) -> str:
        """How the process has ended, in words."""
        code = self._process.returncode
        return cause_of_death(code << 8 if code >= 0 else -code)

    @property
    def _told(self) -> str:
        return f"$SOCKET ({self._place})" if self._place.path else f"$PORT ({self._place.port})"

    # -- its life -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Wait for its end, which is this worker's, too."""
        self._process.wait()
        self._ended.set()

    def _end_with_it(self, ended: Callable[[], None]) -> None:
        self._ended.wait()
        if not self._leaving:
            own_lines.complain(f"{self._who} ended: {self._how}")
            self.connections.drain(DRAINS)
            ended()
            self.end_like_it()

    def end_like_it(self) -> None:
        """End this process in the way in which the other has ended."""
        with contextlib.suppress(Exception):
            self._place.forget()
        own_lines.flush()
        code = self._process.returncode
        if code < 0:
            _without_core()
            with contextlib.suppress(OSError, ValueError):
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code if code > 0 else 0)

    def wait_for_end(self) -> None:
        """Returns soon, unless the process has ended, or does: then never, for this one ends with it."""
        if self._ended.wait(SETTLES) and not self._leaving:
            Event().wait()

    # -- the end ------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """This worker takes nothing more: what is no request any more ends now."""
        self._leaving_since = self._leaving_since or time.monotonic()
        self.relays.end()

    def stop(self) -> None:
        """Ask it to end, and see to it that it does, with all that it has started."""
        self._leaving = True
        self.connections.close()
        patience = self._patience()
        due = time.monotonic() + patience
        if not self._ended.is_set():
            self._process.send_signal(signal.SIGTERM)
            self._ended.wait(patience)
        if not self._ended.is_set():
            own_lines.complain(f"{self._who} did not end within {patience:.1f} s of SIGTERM and is killed")
            self._process.kill()
            self._ended.wait(GOES_WITHIN)
        if not self._end_the_rest(signal.SIGTERM, max(due, time.monotonic() + MOMENT)):
            self._end_the_rest(signal.SIGKILL, time.monotonic() + KILLED_WITHIN)
        self._place.forget()

    def _patience(self) -> float:
        """Less than the server has with this worker."""
        since = self._leaving_since or time.monotonic()
        left = self._stop_timeout - (time.monotonic() - since)
        return max(0.1, min(GOES_WITHIN, left - min(1.0, self._stop_timeout / 10)))

    def _end_the_rest(self, number: int, due: float) -> bool:
        """A shell goes at once, without those that it has started: these have as long to end as it would have had."""
        me = os.getpid()
        for pid in process_group.others(me):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        while left := process_group.others(me):
            if time.monotonic() >= due:
                break
            gevent.sleep(POLL)
        return not left


def free_port() -> tuple[int, socket.socket | None]:
    """A port of this machine that nobody listens on, and that no outgoing connection is given.

    As long as what comes with it is open no other worker is given the port, whose process may not listen yet: one would
    take the other's process for its own.
    """
    for port in random.sample(PORTS, min(50, len(PORTS))):
        claim = _claimed(port)
        if claim is not None:
            if _is_free(port):
                return port, claim
            claim.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1], None


def _claimed(port: int) -> socket.socket | None:
    """None when another worker has it: as ports, abstract names are the network namespace's (unix(7), Linux)."""
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
    """What a worker ignores is no business of another program's (execve(2) keeps ignored signals ignored)."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _without_core() -> None:
    """The other process has left its core, if it has; this one's tells nothing."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


