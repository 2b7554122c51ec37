"""One command run twice on copies of one project: by the framework's own server, and by appsrv.

What both print (stdout and stderr apart), their exit codes and what their loggers wrote to files are compared after the
least masking: times, the port, the project's directory, the name of the reloader.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support import processes
from support.server import BIN, free_port
from support.waiting import wait_for

SECONDS = 30.0
PORT = "{port}"
"""Stands in arguments for a free port."""

MASKS = (
    (r"\d\d/[A-Z][a-z]{2}/\d{4} \d\d:\d\d:\d\d(,\d{3})?", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "TIME"),
    (r"\b[A-Z][a-z]+ \d\d, \d{4} - \d\d:\d\d:\d\d", "TIME"),
    (r"with (?:Stat|Watchfiles)Reloader", "with RELOADER"),
    (r"Restarting with (?:stat|watchfiles|watchdog)", "Restarting with RELOADER"),
    (r"\b\d{3}-\d{3}-\d{3}\b", "PIN"),
    (r"0x[0-9a-f]{6,}", "0xADDRESS"),
    # Daphne's line for a request ends with how long it took and the client's address.
    (r"\[\d+\.\d\d, 127\.0\.0\.1:\d+\]", "[TAKEN, CLIENT]"),
    # The page about an error in a view shows the environment.
    (r'HTTP/1.1" 500 \d+', 'HTTP/1.1" 500 SIZE'),
    # A Ctrl-C that falls into a callback of the collector's is lost there, and the interpreter says so on stderr.
    (r"Exception ignored in: [^\n]*\nTraceback [^\n]*\n(?:  [^\n]*\n)*\n?KeyboardInterrupt: ?\n", ""),
    # Who has called the framework: threads of its reloader there, appsrv here.
    (r'  File "[^"]*/(?:appsrv_django|appsrv_flask|threading|autoreload|click)[^"]*", line .*\n(?:    .*\n)*', ""),
    (r"Exception in thread django-main-thread:\n", ""),
    (r'  File "[^"]*/runserver.py", line \d+, in (?:run|handle)\n(?:    .*\n)*', ""),
    (r'  File "[^"]*/flask/cli.py", line \d+, in run_command\n(?:    .*\n)*', ""),
)


@dataclass(frozen=True)
class Situation:
    """What is typed and what is done then.

    `files` are written over the project's. `until`: what both print when they serve (then `requests`, each (method,
    target), are sent, and Ctrl-C is typed); None when the command ends by itself. `logged`: what is written for each.
    `tls`: they are sent by HTTPS, whatever the certificate.
    """

    name: str
    arguments: Sequence[str]
    until: str | None = None
    requests: Sequence[tuple[str, str]] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    logged: str = "{method} {target} HTTP/1.1"
    tls: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Seen:
    """What a run has shown, masked. `answers`: status of each request; `logged`: the lines of `*.log` files.

    `servers`: what called itself a server in the answers, which the original does and appsrv does not.
    """

    code: int
    out: list[str]
    err: list[str]
    answers: list[int]
    logged: list[str]
    servers: set[str] = field(compare=False)


class Run:
    """One of the two, in a directory of its own."""

    def __init__(self, project: Path, situation: Situation, environment: Mapping[str, str]) -> None:
        self._situation = situation
        self._servers: set[str] = set()
        # Short, for unix sockets; the same length for both, since argparse wraps lines.
        self._top = Path(tempfile.mkdtemp(prefix="side-"))
        self._directory = self._top / "project"
        shutil.copytree(project, self._directory)
        for name, text in situation.files.items():
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self._port = free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environment = {
            **inherited, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(self._top), "COLUMNS": "80",
            "XDG_RUNTIME_DIR": str(self._top), "XDG_STATE_HOME": str(self._top / "state"), "PYTHONUNBUFFERED": "1",
            **environment, **{name: self._filled(value) for name, value in situation.environment.items()},
        }
        argv = [self._filled(word) for word in situation.arguments]
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self._child = subprocess.Popen(
                argv, cwd=self._directory, env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )

    def finish(self) -> Seen:
        """Go through the situation to its end."""
        try:
            answers = [] if self._situation.until is None else self._serve()
            code = self._child.wait(SECONDS)
            left = processes.kill_session(self._child.pid)
            assert left == [], f"processes left behind: {left}"
            return Seen(
                code, self._lines("out"), self._lines("err"), answers, self._masked(self._logged()).splitlines(),
                self._servers,
            )
        finally:
            processes.kill_session(self._child.pid)
            self._child.wait(SECONDS)
            shutil.rmtree(self._top, ignore_errors=True)

    def _serve(self) -> list[int]:
        pattern = re.compile(str(self._situation.until), re.MULTILINE)
        wait_for(lambda: pattern.search(self._printed()), f"{pattern.pattern!r} in {self._printed()}", SECONDS)
        answers = [self._ask(method, target) for method, target in self._situation.requests]
        os.killpg(self._child.pid, signal.SIGINT)
        return answers

    def _ask(self, method: str, target: str) -> int:
        connection = self._connection()
        # Daphne says that it serves before it listens.
        wait_for(lambda: _reached(connection), f"a listener at {self._situation.host}:{self._port}")
        connection.request(method, target)
        response = connection.getresponse()
        response.read()
        connection.close()
        self._servers |= set(response.headers.get_all("Server", []))
        # It is written after the answer: before the next request, so that lines have an order.
        line = self._situation.logged.format(method=method, target=target)
        wait_for(lambda: line in self._printed(), f"{line} in {self._printed()}")
        return response.status

    def _connection(self) -> http.client.HTTPConnection:
        host = self._situation.host
        if self._situation.tls:
            trusting = ssl._create_unverified_context()
            return http.client.HTTPSConnection(host, self._port, timeout=SECONDS, context=trusting)
        return http.client.HTTPConnection(host, self._port, timeout=SECONDS)

    def _printed(self) -> str:
        return self._text("out") + self._text("err") + self._logged()

    def _logged(self) -> str:
        return "".join(path.read_text(encoding="utf-8") for path in sorted(self._directory.glob("*.log")))

    def _filled(self, word: str) -> str:
        return word.replace(PORT, str(self._port))

    def _file(self, name: str) -> Path:
        return self._top / f"{name}.txt"

    def _text(self, name: str) -> str:
        return self._file(name).read_text(encoding="utf-8", errors="replace")

    def _lines(self, name: str) -> list[str]:
        return self._masked(self._text(name)).splitlines()

    def _masked(self, text: str) -> str:
        text = text.replace(str(self._top), "TOP").replace(str(self._port), "PORT")
        for pattern, word in MASKS:
            text = re.sub(pattern, word, text)
        return text


def _reached(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.connect()
    except ConnectionRefusedError:
        return False
    return True


def compare(project: Path, situation: Situation, environment: Mapping[str, str] | None = None) -> tuple[Seen, Seen]:
    """(the original's, ours); both run at the same time."""
    off = Run(project, situation, {**(environment or {}), "APPSRV_RUNSERVER": "0"})
    on = Run(project, situation, environment or {})
    try:
        original = off.finish()
    finally:
        ours = on.finish()
    return original, ours
