"""Which options of the interpreter the other processes of a command get."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appsrv.system import interpreter_flags


@pytest.mark.parametrize(
    ("line", "application", "own"),
    [
        ("python -m appsrv start", "", ""),
        ("python /venv/bin/appsrv start -X -B -O", "", ""),
        ("python -O -X dev -W error -B -m appsrv start -B", "-O -X dev -W error -B", "-O -B"),
        ("python -OOBm appsrv", "-O -O -B", "-O -O -B"),
        ("python -Xutf8 -Wd -X pycache_prefix=/x manage.py", "-X utf8 -W d -X pycache_prefix=/x",
         "-X utf8 -X pycache_prefix=/x"),
        ("python -X importtime -X perf -v -d -i -x -bb manage.py", "-X importtime -X perf -v -d -b -b", ""),
        ("python -I -m appsrv", "-u -I", "-I"),
        ("python -sE manage.py", "-u -s -E", "-s -E"),
        ("python -P -u -m flask run", "-P -u", "-P"),
        ("python --check-hash-based-pycs always -B manage.py", "--check-hash-based-pycs always -B", "-B"),
        ("python -Bc import-appsrv -O", "-B", "-B"),
        ("python -", "", ""),
        ("python -X", "-X ", ""),
    ],
)
def test_what_is_passed_on(line: str, application: str, own: str) -> None:
    argv = line.split()
    assert " ".join(interpreter_flags.for_application(argv)) == application
    assert " ".join(interpreter_flags.for_own_process(argv)) == own


@pytest.mark.process
def test_the_interpreter_reads_its_options_alike() -> None:
    """What it makes of them is the same when it gets them parted."""
    asked = "import sys; print(sys.flags, sys.warnoptions, sys._xoptions)"
    words = ["-OBsP" if sys.version_info >= (3, 11) else "-OBs", "-Werror::BytesWarning", "-X", "dev", "-Xutf8=1"]
    passed = interpreter_flags.for_application(["python", *words, "-c", asked])
    first, second = (
        subprocess.run([sys.executable, *given, "-c", asked], capture_output=True, text=True, check=True).stdout
        for given in (words, passed)
    )
    assert first == second
    assert len(passed) > len(words)


@pytest.mark.process
def test_a_file_of_the_current_directory_shadows_no_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "appsrv").mkdir()
    (tmp_path / "appsrv" / "cli.py").write_text("raise SystemExit('shadowed')")
    command = [sys.executable, "-c", interpreter_flags.code_for("appsrv.cli"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("appsrv ")
    code = interpreter_flags.code_for("appsrv.system.words", "*map(int, sys.argv[1:])")
    assert code.endswith("from appsrv.system.words import main; sys.exit(main(*map(int, sys.argv[1:])))")
