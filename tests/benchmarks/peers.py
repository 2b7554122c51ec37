"""The table of peers: how each server is started for a job, and why it is missing where it is not installed.

A command is built from a `Job` alone; nothing is started here.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Job:
    """One server to start: `app` is `module:name` in `directory`; `scratch` may be written to."""

    app: str
    port: int
    directory: Path
    scratch: Path
    workers: int = 2
    threads: int = 1
    least: int | None = None
    preload: bool = False

    @property
    def bind(self) -> str:
        return f"127.0.0.1:{self.port}"


class Unable(Exception):
    """This peer cannot do this job; the message says why."""


@dataclass(frozen=True)
class Peer:
    """`command` may raise Unable. `needs` is a module or a program without which the peer is missing."""

    name: str
    command: Callable[[Job], list[str]]
    needs: str
    environment: dict[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it cannot be started here, None when it can."""
        program = (BIN / self.needs).exists() or shutil.which(self.needs)
        if program or importlib.util.find_spec(self.needs):
            return None
        return f"{self.needs} is not installed"


def fixed_pool(job: Job, name: str) -> None:
    if job.least is not None:
        raise Unable(f"{name} has a fixed number of workers")


def one_thread(job: Job, name: str) -> None:
    if job.threads > 1:
        raise Unable(f"{name} has no threads")


def appsrv(job: Job, *more: str) -> list[str]:
    least = job.workers if job.least is None else job.least
    files = ["--log-file", str(job.scratch / "server.log"), "--pid-file", str(job.scratch / "server.pid")]
    pool = ["--max-pool-size", str(job.workers), "--min-instances", str(least), "--threads", str(job.threads)]
    return [str(BIN / "appsrv"), "start", job.app, "-p", str(job.port), *pool, *files, *more]


def limit(job: Job) -> list[str]:
    fixed_pool(job, "the bare loop")
    one_thread(job, "the bare loop")
    if job.app.startswith("bodies"):
        raise Unable("the bare loop knows no bodies")
    return [sys.executable, str(HERE / "bare_loop.py"), job.app, str(job.port), str(job.workers)]


def gunicorn(job: Job, kind: str) -> list[str]:
    fixed_pool(job, "gunicorn")
    if kind == "sync":
        one_thread(job, "a sync worker")
    threads = {"gthread": ["--threads", str(max(job.threads, 4))]}.get(kind, [])
    preload = ["--preload"] if job.preload else []
    words = [str(BIN / "gunicorn"), "-k", kind, "-w", str(job.workers), "-b", job.bind, *threads, *preload]
    return [*words, "--no-control-socket", job.app]


def granian(job: Job) -> list[str]:
    fixed_pool(job, "granian")
    words = [str(BIN / "granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(job.port)]
    threads = ["--blocking-threads", str(job.threads)] if job.threads > 1 else []
    return [*words, "--workers", str(job.workers), "--http", "1", "--no-ws", *threads, job.app]


def uwsgi(job: Job) -> list[str]:
    words = [
        str(BIN / "uwsgi"),
        "--http11-socket",
        job.bind,
        "--module",
        job.app,
        "--master",
    ]
    words += ["--processes", str(job.workers), "--disable-logging", "--die-on-term", "--need-app"]
    words += ["--listen", "1024", "--pythonpath", str(job.directory), "--buffer-size", "16384"]
    if job.threads > 1:
        words += ["--threads", str(job.threads)]
    if job.least is not None:
        words += ["--cheaper", str(job.least), "--cheaper-step", str(job.workers)]
    return words


def waitress(job: Job) -> list[str]:
    fixed_pool(job, "waitress")
    threads = max(job.threads, 4)
    return [str(BIN / "waitress-serve"), "--listen", job.bind, "--threads", str(threads), job.app]


def bjoern(job: Job) -> list[str]:
    fixed_pool(job, "bjoern")
    one_thread(job, "bjoern")
    return [sys.executable, str(HERE / "bjoern_server.py"), job.app, str(job.port), str(job.workers)]


def passenger(job: Job) -> list[str]:
    one_thread(job, "Passenger for Python")
    module, _, name = job.app.partition(":")
    path = f"import sys\nsys.path.insert(0, {str(job.directory)!r})\n"
    loader = job.scratch / "passenger_wsgi.py"
    loader.write_text(f"{path}from {module} import {name} as application\n", encoding="utf-8")
    least = job.workers if job.least is None else job.least
    words = ["passenger", "start", str(job.scratch), "--engine", "builtin", "--address", "127.0.0.1"]
    words += ["--port", str(job.port), "--environment", "production", "--python", sys.executable]
    words += ["--max-pool-size", str(job.workers), "--min-instances", str(least), "--log-level", "1"]
    return [*words, "--disable-security-update-check"]


PEERS: tuple[Peer, ...] = (
    Peer("appsrv", appsrv, "appsrv"),
    Peer("appsrv portable", lambda job: appsrv(job, "--ready-queue", "portable"), "appsrv"),
    Peer("bare loop", limit, "python"),
    Peer("granian", granian, "granian"),
    Peer("uwsgi", uwsgi, "uwsgi"),
    Peer("gunicorn sync", lambda job: gunicorn(job, "sync"), "gunicorn"),
    Peer("gunicorn gthread", lambda job: gunicorn(job, "gthread"), "gunicorn"),
    Peer("gunicorn gevent", lambda job: gunicorn(job, "gevent"), "gunicorn"),
    Peer("waitress", waitress, "waitress-serve"),
    Peer("bjoern", bjoern, "bjoern"),
    Peer("passenger", passenger, "passenger"),
)
