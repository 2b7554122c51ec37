"""A real appsrv in a directory of its own: a child process, observed from outside, always reaped."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support import processes
from support.http import Address, Body, Connection, Reply, connect, send
from support.waiting import wait_for

APPS = Path(__file__).resolve().parents[1] / "apps"
EXAMPLES = APPS.parents[1] / "example_projects"
BIN = Path(sys.executable).parent
COMMAND = str(BIN / "appsrv")
BOOT_SECONDS = 30.0
STOP_SECONDS = 20.0


# Out of reach of who lets the system choose (ip_local_port_range), and below those that appsrv chooses itself.
PORTS = range(10_000, 20_000)
# Descriptors of an abstract socket per port: no other test, in whatever process, is given it. The oldest are let go of.
CLAIMS = 50
_claims: deque[int] = deque()
_outputs = itertools.count(1)


def free_port() -> int:
    """A port nobody listens on, nor will: it is its caller's until that has started what listens there."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        if _is_claimed(port) and _is_free(port):
            return port


def _is_claimed(port: int) -> bool:
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0appsrv-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim.detach())
    if len(_claims) > CLAIMS:
        os.close(_claims.popleft())
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Site:
    """A directory with an application in it, its own run directory, and an environment to run commands in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Not under the test's directory: the path of a unix socket may have 107 characters at most.
        self.run = Path(tempfile.mkdtemp(prefix="appsrv-"))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment = {
            **inherited,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(self.run),
            "XDG_STATE_HOME": str(self.run / "state"),
            "HOME": str(self.run),
        }
        directory.mkdir(parents=True, exist_ok=True)

    def add_app(self, name: str) -> None:
        """Copy one of tests/apps into the directory."""
        shutil.copy(APPS / f"{name}.py", self.directory)

    def add_project(self, name: str) -> None:
        """Copy one of the example projects into the directory, without what running it has made."""
        made = shutil.ignore_patterns("__pycache__", "*.sqlite3", "media", "instance", "*.log", "*.pid")
        shutil.copytree(EXAMPLES / name, self.directory, ignore=made, dirs_exist_ok=True)

    def run_command(self, argv: Sequence[str], seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Any command in the directory, run to its end."""
        return subprocess.run(
            argv,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def save(self, name: str, text: str, *, same_second: bool = False) -> None:
        """Write the file as an editor does: a reader finds the whole old text or the whole new one.

        Python takes the bytecode of a source with the same size and the same second of change. Unless `same_second`,
        the new text gets a later second where that would happen.
        """
        target = self.directory / name
        draft = self.directory.with_name("draft")
        draft.write_text(text, encoding="utf-8")
        if not same_second and target.exists():
            old, new = target.stat(), draft.stat()
            if (int(old.st_mtime), old.st_size) == (int(new.st_mtime), new.st_size):
                os.utime(draft, (new.st_atime, new.st_mtime + 1))
        draft.replace(target)

    def command(
        self, *words: str, seconds: float = 30.0, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`appsrv WORDS` in the directory, run to its end."""
        return subprocess.run(
            [COMMAND, *words],
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )

    def remove(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)


class Server:
    """One started server. `argv` is the whole command; `address` is where it is told to listen."""

    def __init__(
        self, site: Site, argv: Sequence[str], address: Address, environment: Mapping[str, str] | None = None
    ) -> None:
        self.site = site
        self.argv = list(argv)
        self.address = address
        self.environment = {**site.environment, **(environment or {})}
        self.output = site.run / f"output-{next(_outputs)}.txt"
        self.child = self._start()
        self.session = self.child.pid
        self._log: Path | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            return subprocess.Popen(
                self.argv,
                cwd=self.site.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    # -- what it says --

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def terminal(self) -> str:
        """What the command printed so far (both streams)."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def log_file(self) -> Path:
        return Path(self.status()["instance"]["log_file"])

    def log(self) -> str:
        """The server log so far."""
        return self._log_path().read_text(encoding="utf-8", errors="replace")

    def _log_path(self) -> Path:
        if self._log is None:
            self._log = self.log_file()
        return self._log

    def wait_log(self, pattern: str, seconds: float = 15.0) -> re.Match[str]:
        """First match of a regular expression (multi-line) in the server log."""
        compiled = re.compile(pattern, re.MULTILINE)
        return wait_for(lambda: compiled.search(self.log()), f"{pattern!r} in the server log", seconds)

    def status(self) -> dict[str, Any]:
        """`GET /status` of the admin socket, asked without appsrv's own client."""
        reply = send(self.admin_socket(), "GET", "/status")
        assert reply.status == 200, reply.text
        answer: dict[str, Any] = reply.json
        return answer

    def admin_socket(self) -> str:
        """The admin socket in the run directory that names this server's pid."""
        for path in self.site.run.glob("appsrv/*/instance.json"):
            try:
                text = path.read_text(encoding="utf-8")
            except FileNotFoundError:  # another one's, which has just ended
                continue
            if json.loads(text)["pid"] == self.pid:
                return str(path.with_name("admin.sock"))
        raise FileNotFoundError(f"no run directory of {self.pid} in {self.site.run}")

    def group(self) -> dict[str, Any]:
        group: dict[str, Any] = self.status()["app_groups"][0]
        return group

    def oldest_request(self) -> float:
        """For how long, in seconds, the oldest request in progress has been so."""
        requests = send(self.admin_socket(), "GET", "/requests").json["requests"]
        return max((request["age"] for request in requests), default=0.0)

    def workers(self) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = self.group()["workers"]
        return workers

    def worker_pids(self) -> set[int]:
        return {worker["pid"] for worker in self.workers() if worker["state"] in ("idle", "busy")}

    # -- waiting --

    def wait_ready(self, seconds: float = BOOT_SECONDS) -> Server:
        """Until the application runs in at least one worker."""
        wait_for(self._ready, f"{' '.join(self.argv)} to be ready; it printed:\n{self.terminal}", seconds)
        return self

    def _ready(self) -> bool:
        code = self.child.poll()
        assert code is None, f"the server ended with {code} while starting; it printed:\n{self.terminal}"
        try:
            ready = self.group()["state"] == "running" and bool(self.worker_pids())
            self._log_path()
            return ready
        except (OSError, AssertionError, IndexError):
            return False

    def wait_listening(self, seconds: float = BOOT_SECONDS) -> Server:
        """Until a connection is taken (for servers whose admin socket is of no interest)."""
        wait_for(self._listening, f"a listener at {self.address}; printed:\n{self.terminal}", seconds)
        return self

    def _listening(self) -> bool:
        code = self.child.poll()
        assert code is None, f"the server ended with {code} while starting; it printed:\n{self.terminal}"
        try:
            connect(self.address, 1.0).close()
        except OSError:
            return False
        return True

    def wait_workers(self, count: int, seconds: float = 15.0) -> set[int]:
        """Until exactly `count` workers can serve; their pids."""

        def enough() -> set[int] | None:
            pids = self.worker_pids()
            return pids if len(pids) == count else None

        return wait_for(enough, f"{count} workers", seconds)

    # -- talking to it --

    def get(self, target: str = "/", headers: Mapping[str, str] | None = None) -> Reply:
        return send(self.address, "GET", target, None, headers)

    def request(
        self, method: str, target: str, body: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        return send(self.address, method, target, body, headers)

    def keep_alive(self) -> Connection:
        return Connection(self.address)

    def raw(self) -> socket.socket:
        return connect(self.address)

    # -- processes --

    def titles(self) -> dict[int, str]:
        """Pid and title of every process of this server."""
        return {process.pid: processes.title(process) for process in processes.in_session(self.session)}

    def pid_of(self, title: str) -> int:
        """The one process whose title starts with `title`."""
        found = [pid for pid, text in self.titles().items() if text.startswith(title)]
        assert len(found) == 1, (title, self.titles())
        return found[0]

    # -- the end --

    def kill_everything(self) -> None:
        """SIGKILL to every process, none of which has time to see another one's end."""
        pids = [self.pid, *(pid for pid in self.titles() if pid != self.pid)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
        self.wait_exit()

    def wait_exit(self, seconds: float = STOP_SECONDS) -> int:
        return self.child.wait(seconds)

    def stop(self, signum: signal.Signals = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Signal the started command, wait for its end; its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signum)
        return self.wait_exit(seconds)

    def reap(self) -> list[str]:
        """End everything, by force if need be. Returns what a polite stop had left behind."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            left = processes.kill_session(self.session)
            self.child.wait(STOP_SECONDS)
            return [*left, "(it did not stop when asked to)"]
        return processes.kill_session(self.session)

    def evidence(self) -> str:
        """All there is to see, for the report of a failed test."""
        try:
            status = json.dumps(self.status(), indent=1)
        except Exception as error:
            status = f"no status: {error!r}"
        try:
            log = self.log()
        except Exception as error:
            log = f"no log: {error!r}"
        tree = "\n".join(f"{pid} {text}" for pid, text in self.titles().items())
        sections = {"command": " ".join(self.argv), "exit": str(self.child.poll()), "processes": tree}
        sections |= {"status": status, "terminal": self.terminal, "server log": log}
        return "\n".join(f"--- {name}\n{text}" for name, text in sections.items())
