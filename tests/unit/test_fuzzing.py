"""The fuzzing of the request parser works and finds nothing in a few seconds; `tests/fuzz/run` looks for longer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
RUNS = 6000

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="atheris is not installed (extra [fuzz]; it has few wheels)"
    ),
]


def fuzz(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz", *arguments]
    return subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=120, check=False
    )


def test_nothing_is_found_in_a_few_thousand_runs(tmp_path: Path) -> None:
    done = fuzz(tmp_path, f"-runs={RUNS}", "-seed=1")
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {RUNS} runs" in done.stderr
    assert list(tmp_path.iterdir()) == [], "inputs that break the parser"


def test_an_input_of_a_report_is_run_again(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"\0\0\0GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    done = fuzz(tmp_path, str(tmp_path / "input"))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Executed" in done.stderr
