"""What the way through appsrv costs an application in another language: the same process, asked directly and behind it.

Both are asked in turn, round by round, so that what the machine does besides harms both; the ratio is of the medians.
One process of the application each, without appsrv's pool making more.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.launch import free_port, running, scratch_directory
from benchmarks.load import wrk

APPS = Path(__file__).resolve().parents[1] / "generic"
COMMANDS = {
    "node": f"node {APPS}/shapes.js",
    "uvicorn": f"uvicorn --app-dir {APPS} --port $PORT --log-level error shapes_asgi:application",
}
PATHS = {"a few bytes": "/", "1 MB": "/big?1000000"}
CONNECTIONS = 16


@contextmanager
def served(command: str, *, direct: bool) -> Iterator[int]:
    """The port on which the application is asked."""
    port = free_port()
    appsrv = [sys.executable, "-m", "appsrv", "start", "--port", str(port), "--max-pool-size", "1"]
    argv = ["/bin/sh", "-c", f"exec {command}"] if direct else [*appsrv, "--start-command", command]
    with scratch_directory() as scratch, running(argv, scratch, port, scratch, {"PORT": str(port)}):
        yield port


def compare(command: str, path: str, rounds: int, seconds: float) -> tuple[float, float]:
    """Answers a second, directly and behind appsrv."""
    with served(command, direct=True) as straight, served(command, direct=False) as behind:
        rates: dict[int, list[float]] = {straight: [], behind: []}
        for port in (straight, behind):
            wrk(port, 1, CONNECTIONS, path)
        for _ in range(rounds):
            for port, seen in rates.items():
                seen.append(wrk(port, seconds, CONNECTIONS, path).rate)
    return statistics.median(rates[straight]), statistics.median(rates[behind])


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(COMMANDS), help=f"which: {', '.join(COMMANDS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not here: install it first", file=sys.stderr)
        return 2
    print(f"{'application':<12} {'answer':<12} {'directly':>9} {'behind':>9} {'ratio':>6}")
    for name in options.names:
        for what, path in PATHS.items():
            straight, behind = compare(COMMANDS[name], path, options.rounds, options.seconds)
            print(f"{name:<12} {what:<12} {straight:9.0f} {behind:9.0f} {behind / straight:6.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
