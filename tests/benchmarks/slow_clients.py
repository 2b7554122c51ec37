"""The command `tests/benchmarks/slow_clients_run`: what slow and idle clients cost appsrv and everybody else.

Three measurements, each with its target: 500 clients that dribble, 10,000 that are idle, 50 that read slowly.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.launch import Running, free_port, running, scratch_directory
from benchmarks.slow_load import GET, Dribbler, Ordinary, Reader, connect, crowd, ordinary

APPS = Path(__file__).resolve().parent / "apps"
WARM_UP = 200
RESERVED = 100
ARRIVE_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """How many of each, for how long, on which ready queue."""

    dribblers: int
    idle: int
    readers: int
    seconds: float
    rounds: int
    queue: str


@dataclass(frozen=True)
class Finding:
    """One line of the report. `target` says what `value` must not exceed."""

    name: str
    value: float
    unit: str
    target: float | None

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.value <= self.target


def dribbling(server: Running, plan: Plan) -> list[Finding]:
    """Ordinary requests with and without clients that send their requests in pieces."""
    return beside(server, plan, Dribbler, plan.dribblers, "dribblers")


def reading(server: Running, plan: Plan) -> list[Finding]:
    """Ordinary requests with and without clients that read 20 MB slowly."""
    return beside(server, plan, Reader, plan.readers, "readers")


def beside(server: Running, plan: Plan, kind: type[Dribbler | Reader], count: int, name: str) -> list[Finding]:
    """By turns, so that a slow minute of the machine hits both."""
    alone, meanwhile, among, unexpected = Ordinary(), Ordinary(), Ordinary(), 0
    ordinary(server.port, 1.0)
    for _ in range(plan.rounds):
        alone.add(ordinary(server.port, plan.seconds))
        with crowd(kind, server.port, count) as slow:
            ends = time.monotonic() + ARRIVE_SECONDS
            while not slow.arrived() and time.monotonic() < ends:
                meanwhile.add(ordinary(server.port, 0.2))
            among.add(ordinary(server.port, plan.seconds))
        unexpected += slow.unexpected
        if slow.unexpected:
            print(f"{name}: {dict(slow.happened)}", file=sys.stderr)
    p99, failed = alone.percentile(0.99), among.failed + meanwhile.failed + alone.failed
    return [
        Finding(f"{count} {name}: ordinary requests that failed", failed, "", 0),
        Finding(f"{count} {name}: slow clients answered wrongly", unexpected, "", 0),
        Finding(f"{count} {name}: median without them", alone.percentile(0.5), "ms", None),
        Finding(f"{count} {name}: median with them", among.percentile(0.5), "ms", None),
        Finding(f"{count} {name}: p99 without them", p99, "ms", None),
        Finding(f"{count} {name}: p99 while they arrive", meanwhile.percentile(0.99), "ms", None),
        Finding(f"{count} {name}: p99 with them", among.percentile(0.99), "ms", 2 * p99),
    ]


def idling(server: Running, plan: Plan) -> list[Finding]:
    """Memory of connections that have asked once and are kept."""
    # Only now: the server and its workers have been started under the limit that the caller has.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for _ in range(WARM_UP):
        with connect(server.port) as warm:
            _ask(warm)
    time.sleep(1.0)
    before = server.pss()
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server.port)) for _ in range(plan.idle)]
        for client in clients:
            _ask(client)
        time.sleep(1.0)
        each = (server.pss() - before) * 2**20 / len(clients)
        dead = sum(not _answers(client) for client in clients[:: max(1, len(clients) // 100)])
    return [
        Finding(f"{plan.idle} idle: memory of each, PSS of the tree (not the kernel's)", each, "bytes", 6 * 1024),
        Finding(f"{plan.idle} idle: of a hundred of them not served again", dead, "", 0),
    ]


def _ask(client: socket.socket) -> None:
    client.sendall(GET)
    client.recv(65536)


def _answers(client: socket.socket) -> bool:
    try:
        client.sendall(GET)
        return client.recv(65536).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


MEASUREMENTS: dict[str, Callable[[Running, Plan], list[Finding]]] = {
    "dribbling": dribbling, "idling": idling, "reading": reading,
}


def measure(name: str, plan: Plan) -> list[Finding]:
    """One measurement on a server of its own with two workers."""
    with scratch_directory() as scratch:
        port = free_port()
        words = ["-p", str(port), "--ready-queue", plan.queue, "--max-pool-size", "2", "--min-instances", "2"]
        files = ["--log-file", str(scratch / "log"), "--pid-file", str(scratch / "pid")]
        command = [str(Path(sys.executable).parent / "appsrv"), "start", "slow_clients:application", *words, *files]
        with running(command, APPS, port, scratch, {}) as server:
            return MEASUREMENTS[name](server, plan)


def table(findings: Sequence[Finding]) -> str:
    """The findings, each with its target and whether it was met."""
    words = {None: "", True: "met", False: "MISSED"}
    lines = []
    for found in findings:
        target = "" if found.target is None else f"at most {found.target:,.4g}"
        lines.append(f"{found.name:<72}{found.value:>10,.4g} {found.unit:<6} {target:<16} {words[found.met]}".rstrip())
    return "\n".join(lines)


def most_idle() -> int:
    """As many connections as the server may have by default, and this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard - hard // 8 - RESERVED


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/benchmarks/slow_clients_run", description=__doc__)
    parser.add_argument("measurements", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("--dribblers", type=int, default=500)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement of ordinary requests")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--queue", default="auto", help="auto, epoll or portable")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(argv)
    for name in given.measurements:
        if name not in MEASUREMENTS:
            parser.error(f"{name!r} is not one of: {', '.join(MEASUREMENTS)}")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 when a target was missed."""
    given = parse(argv)
    plan = Plan(
        given.dribblers, min(given.idle, most_idle()), given.readers, given.seconds, given.rounds, given.queue
    )
    findings = [found for name in given.measurements or MEASUREMENTS for found in measure(name, plan)]
    if given.json:
        print(json.dumps([{**asdict(found), "met": found.met} for found in findings], indent=1))
    else:
        print(table(findings))
    return int(any(found.met is False for found in findings))


if __name__ == "__main__":
    sys.exit(main())
