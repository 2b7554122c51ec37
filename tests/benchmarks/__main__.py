"""The command `tests/benchmarks/run`: chooses workloads and peers, measures them in turn, reports."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks import dev_servers, report
from benchmarks.launch import StartFailed, free_port, running, scratch_directory
from benchmarks.load import LoadFailed
from benchmarks.peers import PEERS, Job, Peer, Unable
from benchmarks.report import Results, Series
from benchmarks.workloads import FILE_BYTES, WORKLOADS, Figures, Options, Workload

HERE = Path(__file__).resolve().parent
SHORT_WORKLOADS = ("hello", "flask")
SHORT_PEERS = ("appsrv", "bare loop", "granian", "gunicorn sync")
DISTRIBUTIONS = (
    "appsrv",
    "gunicorn",
    "granian",
    "pyuwsgi",
    "waitress",
    "bjoern",
    "django",
    "flask",
    "gevent",
)


@dataclass(frozen=True)
class Contender:
    """One peer in one workload; `measure` starts it, measures it and ends it."""

    name: str
    missing: str | None
    measure: Callable[[], Figures]


def served_by(peer: Peer, workload: Workload, options: Options) -> Contender:
    return Contender(peer.name, peer.missing(), lambda: measure_peer(peer, workload, options))


def measure_peer(peer: Peer, workload: Workload, options: Options) -> Figures:
    with scratch_directory() as scratch:
        job = Job(
            workload.app,
            free_port(),
            HERE / "apps",
            scratch,
            workload.workers,
            workload.threads,
            workload.least,
            workload.preload,
        )
        environment = {**files_for(workload, scratch), **workload.environment, **peer.environment}
        with running(peer.command(job), job.directory, job.port, scratch, environment) as server:
            return workload.measure(server, options)


def files_for(workload: Workload, scratch: Path) -> dict[str, str]:
    """Variables that name what the applications read; the large file is made only where it is served."""
    if not workload.app.startswith("bodies"):
        return {"BENCHMARK_PROJECT": str(HERE / "projects" / "django")}
    large = scratch / "large.bin"
    with large.open("wb") as file:
        file.truncate(FILE_BYTES)
    return {"BENCHMARK_FILE": str(large)}


def developed_with(server: dev_servers.DevServer, workload: Workload, options: Options) -> Contender:
    def measure() -> Figures:
        with scratch_directory() as scratch:
            project = dev_servers.copy_project(workload.app, scratch)
            port = free_port()
            command = dev_servers.command(workload.kind, port, project)
            with running(command, project, port, scratch, server.environment(project)) as started:
                return workload.measure(started, options)

    return Contender(server.name, None, measure)


def contenders(workload: Workload, chosen: Sequence[str], options: Options) -> list[Contender]:
    if workload.kind != "server":
        return [developed_with(server, workload, options) for server in dev_servers.ORIGINALS]
    return [served_by(peer, workload, options) for peer in PEERS if peer.name in chosen]


def run_once(contender: Contender, series: Series) -> None:
    """One round of one peer; what keeps it from a figure is remembered beside the missing figure."""
    try:
        series.rounds.append(contender.measure())
    except Unable as why:
        series.missing = str(why)
    except (StartFailed, LoadFailed, OSError) as why:
        series.rounds.append(None)
        series.missing = f"{type(why).__name__}: {why}"


def run_workload(workload: Workload, found: Sequence[Contender], rounds: int) -> dict[str, Series]:
    """Peers take turns, so that a slow minute of the machine hits all of them."""
    results = {contender.name: Series(missing=contender.missing) for contender in found}
    for number in range(rounds):
        for contender in found:
            series = results[contender.name]
            if contender.missing or (series.missing and not series.rounds):
                continue
            progress(f"{workload.name} round {number + 1}/{rounds}: {contender.name}")
            run_once(contender, series)
    progress("")
    return results


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def about() -> dict[str, object]:
    """The machine and the versions, without which a figure says nothing."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in DISTRIBUTIONS},
    }


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def chosen(given: str | None, default: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """What `--peers a,b` asks for; without it the default, without that all."""
    if given is None:
        return default or known
    wanted = [word.strip() for word in given.split(",")]
    for word in wanted:
        if word not in known:
            raise SystemExit(f"{word!r} is not one of: {', '.join(known)}")
    return wanted


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/benchmarks/run", description=__doc__)
    parser.add_argument("--workloads", metavar="A,B", help="default: all")
    parser.add_argument("--peers", metavar="A,B", help="default: all")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 5")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each measurement; default: 4")
    parser.add_argument("--short", action="store_true", help="a look in about a minute")
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: results/ beside this program")
    parser.add_argument("--list", action="store_true", help="show workloads and peers, measure nothing")
    return parser.parse_args(argv)


def show_choices() -> None:
    for workload in WORKLOADS:
        print(f"workload {workload.name:<18}{workload.title}")
    for peer in PEERS:
        print(f"peer     {peer.name:<18}{peer.missing() or 'present'}")


def result_path(given: Path | None) -> Path:
    return given or HERE / "results" / time.strftime("%Y%m%d-%H%M%S.json")


def save(path: Path, results: Results, workloads: Sequence[Workload]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.as_json(results, workloads, about()), indent=1), encoding="utf-8")
    print(f"written to {path}")


def main(argv: Sequence[str] | None = None) -> int:
    given = parse(argv)
    if given.list:
        show_choices()
        return 0
    rounds = given.rounds or (2 if given.short else 5)
    options = Options(given.seconds or (2.0 if given.short else 4.0))
    peers = chosen(given.peers, SHORT_PEERS if given.short else None, [peer.name for peer in PEERS])
    names = [workload.name for workload in WORKLOADS]
    wanted = chosen(given.workloads, SHORT_WORKLOADS if given.short else None, names)
    workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    results: dict[str, dict[str, Series]] = {}
    for workload in workloads:
        results[workload.name] = run_workload(workload, contenders(workload, peers, options), rounds)
        print(report.table(workload, results[workload.name]), flush=True)
    save(result_path(given.json), results, workloads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
