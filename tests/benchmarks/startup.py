"""What an environment with appsrv in it costs a Python that does not use it: `python -c pass`, with and without.

    python tests/benchmarks/startup.py

Makes a virtual environment of its own, and installs and removes appsrv's files in turn, so that whatever else the
machine does meets both alike. Needs nothing but this checkout.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STARTUP = (ROOT / "django_integration" / "appsrv_django.pth", ROOT / "django_integration" / "appsrv_django.start")
PACKAGES = (
    ROOT / "package" / "appsrv",
    ROOT / "django_integration" / "appsrv_django",
    ROOT / "flask_integration" / "appsrv_flask",
)
ROUNDS, STARTS = 25, 8
MOST = 1.0
"""Milliseconds that appsrv may cost."""


def install(site: Path) -> None:
    for file in STARTUP:
        shutil.copy(file, site)
    for package in PACKAGES:
        shutil.copytree(package, site / package.name, dirs_exist_ok=True)


def remove(site: Path) -> None:
    for file in STARTUP:
        (site / file.name).unlink()
    for package in PACKAGES:
        shutil.rmtree(site / package.name)


def start(python: Path) -> float:
    """Milliseconds of one start."""
    began = time.perf_counter()
    subprocess.run([python, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Print both medians; 1 when the difference is too large."""
    with_it: list[float] = []
    without: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory)
        python = Path(directory) / "bin" / "python"
        site = next(Path(directory).glob("lib/python3*/site-packages"))
        for _ in range(ROUNDS):
            install(site)
            start(python)
            with_it += [start(python) for _ in range(STARTS)]
            remove(site)
            start(python)
            without += [start(python) for _ in range(STARTS)]
    ours, bare = statistics.median(with_it), statistics.median(without)
    difference = ours - bare
    print(f"with appsrv {ours:.2f} ms, without {bare:.2f} ms: {difference:+.2f} ms")
    return int(difference > MOST)


if __name__ == "__main__":
    sys.exit(main())
