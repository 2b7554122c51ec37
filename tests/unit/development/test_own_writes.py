"""Which files a process has written itself, asked in a process of its own: an audit hook cannot be taken away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ASK = """
import os, pathlib, shutil, sys
from appsrv.development import own_writes
open("read.py", "w").close()
open("replaced.py", "w").close()
own_writes.record()
open("read.py").close()
{action}
own_writes.stop()
open("later.py", "w").close()
print([name for name in {names!r} if own_writes.is_own_write(name)])
"""


@pytest.mark.parametrize(
    ("action", "own"),
    [
        ("open('a.py', 'w').close()", ["a.py"]),
        ("open('a.py', 'a').close(); open(b'b.py', 'xb').close()", ["a.py", "b.py"]),
        ("pathlib.Path('a.py').write_text('x'); pathlib.Path('b.py').touch()", ["a.py", "b.py"]),
        ("os.close(os.open('a.py', os.O_CREAT | os.O_RDWR))", ["a.py"]),
        ("open('draft', 'w').close(); os.replace('draft', 'a.py')", ["a.py"]),
        ("open('draft', 'w').close(); shutil.move('draft', 'b.py')", ["b.py"]),
        ("os.symlink('a.py', 'b.py'); open('b.py', 'w').close()", ["a.py", "b.py"]),
        ("os.utime('read.py')", ["read.py"]),
        ("open(os.open('a.py', os.O_CREAT | os.O_WRONLY), 'w').close()", ["a.py"]),
    ],
)
def test_what_is_written_while_it_records(tmp_path: Path, action: str, own: list[str]) -> None:
    assert asked(tmp_path, action) == str(own)


@pytest.mark.parametrize(
    "save",
    [
        # An editor's: another file in the place of the one that was written; or the same one, written much later.
        "open('replaced.py', 'w').close(); own_writes.stop(); open('d', 'w').close(); os.replace('d', 'replaced.py')",
        "open('replaced.py', 'w').close(); import time; own_writes.stop(); os.utime('replaced.py', (2e9, 2e9))",
    ],
)
def test_what_is_saved_over_it_is_not_its_own(tmp_path: Path, save: str) -> None:
    assert asked(tmp_path, save) == "[]"


def test_the_application_gets_the_errors_of_its_own_calls(tmp_path: Path) -> None:
    action = "\n".join(
        f"try: {call}\nexcept Exception as error: pass\nelse: raise SystemExit({call!r})"
        for call in ("open('no/such.py', 'w')", "os.rename('missing', 'a.py')", "open('\\0', 'w')", "open(None, 'w')")
    )
    assert asked(tmp_path, action) == "[]"


def asked(directory: Path, action: str) -> str:
    code = ASK.format(action=action, names=["a.py", "b.py", "read.py", "replaced.py", "later.py"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
