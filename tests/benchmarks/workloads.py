"""The table of workloads: what is started for each, what is sent to it, and which figures come out.

A measure is given a running server and returns figures by the name of their metric; it knows no peer.
"""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks import load
from benchmarks.launch import Running

MIB = 2**20
FILE_BYTES = 20 * MIB
IDLE_SECONDS = 20.0
SETTLED = 5.0
"""Seconds until a reloader that polls has surely looked once (it misses what changes before), and the next preloader of
appsrv stands by."""


@dataclass(frozen=True)
class Metric:
    """`more_is_better` decides which way round a ratio is shown: above 1 is always in favour of appsrv."""

    name: str
    unit: str
    more_is_better: bool = True


IDLE = (Metric("cpu", "% of a processor", more_is_better=False),)
RATE = Metric("rate", "requests/s")
P50 = Metric("p50", "ms", more_is_better=False)
P99 = Metric("p99", "ms", more_is_better=False)
SLOWEST = Metric("max", "ms", more_is_better=False)

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Options:
    """How long one measurement lasts."""

    seconds: float


Measure = Callable[[Running, Options], Figures]


@dataclass(frozen=True)
class Workload:
    """One row. `kind` says how peers are started: as a server of `app`, or as a development server."""

    name: str
    title: str
    app: str
    measure: Measure
    metrics: tuple[Metric, ...]
    workers: int = 2
    threads: int = 1
    least: int | None = None
    preload: bool = False
    kind: str = "server"
    environment: Mapping[str, str] = field(default_factory=dict)


# -- measures ----------------------------------------------------------------------------------------------


def throughput(connections: int, path: str = "/", headers: tuple[str, ...] = (), body: int = 0) -> Measure:
    def measure(server: Running, options: Options) -> Figures:
        load.wrk(server.port, 1, connections, path, headers=headers, body=body)
        result = load.wrk(server.port, options.seconds, connections, path, headers=headers, body=body)
        return {"rate": result.rate, "p50": result.p50, "p99": result.p99, "failed": result.failed}

    return measure


def crowd(server: Running, options: Options) -> Figures:
    """512 connections; besides throughput, how many of them are served at all."""
    share = load.answered_share(server.port, 512, max(2.0, options.seconds))
    return {**throughput(512)(server, options), "served": share * 100}


def mixed(server: Running, options: Options) -> Figures:
    """What 16 fast connections feel while 2 others sit in a view of 100 ms."""
    slow = load.Wrk(server.port, options.seconds + 1, 2, "/slow")
    fast = load.wrk(server.port, options.seconds, 16)
    slow.result()
    return {"rate": fast.rate, "p50": fast.p50, "p99": fast.p99, "max": fast.max}


def sleeps(server: Running, options: Options) -> Figures:
    """Eight views of 100 ms at once: 100 ms when each has a thread of its own."""
    load.parallel(server.port, "/slow", 8)
    passed, _ = load.parallel(server.port, "/slow", 8)
    return {"sleeps": passed}


def threads(server: Running, options: Options) -> Figures:
    return {**throughput(32)(server, options), **sleeps(server, options)}


def start(server: Running, options: Options) -> Figures:
    return {"first": server.first_answer}


def burst(server: Running, options: Options) -> Figures:
    """From the first of 48 requests of 100 ms at once until six processes have begun to serve."""
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    _, bodies = load.parallel(server.port, "/", 48)
    begun: dict[bytes, float] = {}
    for body in bodies:
        pid, moment = body.split()
        begun[pid] = min(begun.get(pid, float("inf")), float(moment))
    if len(begun) < 6:
        raise load.LoadFailed(f"{len(begun)} processes served, not 6")
    return {"six": (sorted(begun.values())[5] - started) * 1000}


def memory(path: str) -> Measure:
    def measure(server: Running, options: Options) -> Figures:
        """PSS of the whole tree after 500 requests for each of the 4 workers."""
        for _ in range(25):
            load.parallel(server.port, path, 80)
        return {"pss": server.pss()}

    return measure


def reload_time(server: Running, options: Options) -> Figures:
    """From saving the application's file until its new text is answered."""
    source = server.scratch / "project" / "views.py"
    _until(server.port, b"version 1")
    # People save at any moment: one that looks once a second must not always be met just before it looks.
    time.sleep(SETTLED + random.random())
    started = time.monotonic()
    source.write_text(source.read_text(encoding="utf-8").replace("version 1", "version 2"), encoding="utf-8")
    _until(server.port, b"version 2")
    return {"reload": (time.monotonic() - started) * 1000}


def idle(server: Running, options: Options) -> Figures:
    """What watching the files costs while nobody saves or asks anything."""
    time.sleep(SETTLED)
    before, began = server.cpu_seconds(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return {"cpu": 100 * (server.cpu_seconds() - before) / (time.monotonic() - began)}


def _until(port: int, text: bytes, seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if text in load.get(port, "/version"):
                return
        except (OSError, load.LoadFailed, http.client.HTTPException):
            # A reloader that ends the process refuses connections, and cuts answers.
            pass
        time.sleep(0.002)
    raise load.LoadFailed(f"never answered {text!r}")


# -- the table ---------------------------------------------------------------------------------------------

HTTP = (RATE, P99)

WORKLOADS: tuple[Workload, ...] = (
    Workload("hello", "hello, 2 workers, 32 keep-alive connections", "hello:app", throughput(32), HTTP),
    Workload(
        "flask", "Flask JSON, 2 workers, 32 keep-alive connections", "flask_json:app", throughput(32), HTTP
    ),
    Workload(
        "django", "Django JSON, 2 workers, 32 keep-alive connections", "django_json:app", throughput(32), HTTP
    ),
    Workload(
        "close",
        "hello, a connection for each request",
        "hello:app",
        throughput(32, headers=("Connection: close",)),
        HTTP,
    ),
    Workload(
        "crowd",
        "hello, 512 keep-alive connections",
        "hello:app",
        crowd,
        (RATE, P99, Metric("served", "% of connections")),
    ),
    Workload(
        "mixed",
        "4 workers, 2 connections in a view of 100 ms, figures of 16 fast ones",
        "hello:app",
        mixed,
        (P50, P99, SLOWEST, RATE),
        workers=4,
    ),
    Workload(
        "one-thread",
        "Flask JSON, 1 worker, 1 thread (to compare with the next)",
        "flask_json:app",
        throughput(32),
        HTTP,
        workers=1,
    ),
    Workload(
        "threads",
        "Flask JSON, 1 worker, 8 threads, and 8 parallel views of 100 ms",
        "flask_json:app",
        threads,
        (RATE, P99, Metric("sleeps", "ms for all 8", more_is_better=False)),
        workers=1,
        threads=8,
    ),
    Workload("post", "POST of 1 MiB, 8 connections", "bodies:app", throughput(8, body=MIB), HTTP),
    Workload("download", "20 MiB file, 8 connections", "bodies:app", throughput(8), HTTP),
    Workload(
        "runserver",
        "10 KiB template page through manage.py runserver",
        "django",
        throughput(8, "/page"),
        HTTP,
        kind="runserver",
    ),
    Workload(
        "flask-run",
        "10 KiB template page through flask run",
        "flask",
        throughput(8, "/page"),
        HTTP,
        kind="flask-run",
    ),
    Workload(
        "memory",
        "Django with admin, 4 workers, after 500 requests each",
        "admin_site:app",
        memory("/admin/login/"),
        (Metric("pss", "MiB PSS", more_is_better=False),),
        workers=4,
        preload=True,
    ),
    Workload(
        "start",
        "Django with admin, 2 workers: command to first answer",
        "admin_site:app",
        start,
        (Metric("first", "ms", more_is_better=False),),
    ),
    Workload(
        "burst",
        "1 to 6 workers under 48 requests of 100 ms",
        "hello:who",
        burst,
        (Metric("six", "ms until 6 serve", more_is_better=False),),
        workers=6,
        least=1,
    ),
    Workload(
        "reload-runserver",
        "runserver: file saved to new answer",
        "django",
        reload_time,
        (Metric("reload", "ms", more_is_better=False),),
        kind="runserver",
    ),
    Workload(
        "reload-flask",
        "flask run --debug: file saved to new answer",
        "flask",
        reload_time,
        (Metric("reload", "ms", more_is_better=False),),
        kind="flask-run",
    ),
    Workload(
        "idle-runserver",
        "runserver, nothing to do: the example project",
        "example",
        idle,
        IDLE,
        kind="runserver",
    ),
    Workload(
        "idle-startproject",
        "runserver, nothing to do: a new project",
        "startproject",
        idle,
        IDLE,
        kind="runserver",
    ),
    Workload("idle-flask", "flask run --debug, nothing to do", "flask", idle, IDLE, kind="flask-run"),
)
