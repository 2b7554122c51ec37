"""exit_functions.py: what a fork runs when it ends, each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

HEAD = """
import atexit, os, sys, weakref
from appsrv.app_process import exit_functions
def say(what): os.write(1, f"{what}\\n".encode())
class Thing: pass
"""


def printed(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


FORK = """
before, kept = Thing(), Thing()
atexit.register(say, "parent's")
weakref.finalize(before, say, "parent's finalizer")
if os.fork():
    os.wait()
    sys.exit()
exit_functions.reset_in_child()
say("-- fork")
after = Thing()
"""


def test_the_parent_s_stay_the_parent_s() -> None:
    assert printed(FORK) == ["-- fork", "parent's finalizer", "parent's"]


def test_a_fork_runs_its_own() -> None:
    code = FORK + "atexit.register(say, 'own'); weakref.finalize(after, say, 'own finalizer')"
    assert printed(code)[:3] == ["-- fork", "own", "own finalizer"]


def test_logging_ends_in_each_process() -> None:
    code = f"""
import logging, logging.handlers
class Shown(logging.Handler):
    def emit(self, record): say(record.getMessage())
memory = logging.handlers.MemoryHandler(99, target=Shown())
logging.getLogger().addHandler(memory)
{FORK}
logging.warning("kept back")
"""
    assert printed(code)[:2] == ["-- fork", "kept back"]
