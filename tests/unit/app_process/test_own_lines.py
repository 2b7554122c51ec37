"""own_lines.py: what appsrv writes where the standard streams are the application's."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

BROKEN = """
class Broken:
    def write(self, text): raise RuntimeError
    def flush(self): raise RuntimeError
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    head = f"import io, os, sys\nfrom appsrv.app_process import own_lines\n{BROKEN}"
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("stream", ["None", "Broken()", "object()", "io.StringIO()"])
def test_lines_go_to_descriptor_2_whatever_the_streams_are(stream: str) -> None:
    code = f"""
sys.stdout = sys.stderr = {stream}
own_lines.complain("one")
own_lines.write_traceback(ValueError("two"))
own_lines.error_stream().write("" if isinstance(sys.stderr, io.StringIO) else "three\\n")
own_lines.flush()
own_lines.prepare_exit()
"""
    done = run(code)
    expected = ["appsrv: one", "ValueError: two", "three"][: 2 if "String" in stream else 3]
    assert done.stderr.splitlines() == expected
    assert done.returncode == 0, "settled: no exit code 120"


def test_without_settling_python_exits_with_its_own_code() -> None:
    assert run("sys.stdout = Broken()").returncode == 120


def test_nobody_reads() -> None:
    assert run("os.close(2)\nown_lines.complain('lost')").returncode == 0


def test_the_streams_that_are_labelled_are_those_of_the_process() -> None:
    code = """
file = open(os.devnull, "w")
again = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
sys.stdout, sys.stderr = again, file
print([stream is again for stream in own_lines.pipes()], len(own_lines.pipes()))
again.flush()
"""
    assert run(code).stdout == "[True, False, False] 3\n"
