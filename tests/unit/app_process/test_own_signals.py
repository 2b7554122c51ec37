"""own_signals.py: which handlers stand after appsrv has put its own in place, here, in a child and after exec."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

HEAD = """
import os, signal, subprocess, sys
from appsrv.app_process import own_signals
came = []
note = lambda number, frame: came.append(number)
default = signal.SIG_DFL
"""


def run(code: str) -> list[str]:
    """The lines that the code prints in an interpreter of its own."""
    command = [sys.executable, "-c", HEAD + code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()


def test_a_signal_without_effect_is_not_ignored_by_programs_that_are_started() -> None:
    code = """
own_signals.neutralize(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR1)
print("lives", signal.getsignal(signal.SIGUSR1) is not signal.SIG_IGN)
show = "import signal; print(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)"
print(subprocess.run([sys.executable, "-c", show], capture_output=True, text=True).stdout.strip())
"""
    assert run(code) == ["lives True", "True"]


@pytest.mark.parametrize("given", ["signal.SIG_IGN", "note"])
def test_what_the_operator_or_the_application_has_chosen_stays(given: str) -> None:
    code = f"""
signal.signal(signal.SIGHUP, {given})
own_signals.neutralize(signal.SIGHUP)
print(signal.getsignal(signal.SIGHUP) is {given})
"""
    assert run(code) == ["True"]


def test_a_child_has_the_handlers_of_before() -> None:
    code = """
signal.signal(signal.SIGUSR1, note)
own_signals.handle(signal.SIGUSR1, lambda number, frame: print("ours", flush=True))
own_signals.handle(signal.SIGTERM, lambda number, frame: print("ours", flush=True))
own_signals.restore()
print(signal.getsignal(signal.SIGUSR1) is note, signal.getsignal(signal.SIGTERM) is default)
"""
    assert run(code) == ["True True"]


def test_a_handler_that_the_application_puts_over_ours_stays_in_a_child() -> None:
    code = """
own_signals.handle(signal.SIGTERM, lambda number, frame: None)
signal.signal(signal.SIGTERM, note)
own_signals.restore()
print(signal.getsignal(signal.SIGTERM) is note)
"""
    assert run(code) == ["True"]


def test_our_handler_that_the_application_has_kept_acts_as_the_default_in_a_child() -> None:
    code = """
own_signals.handle(signal.SIGTERM, lambda number, frame: print("ours", flush=True))
kept = signal.getsignal(signal.SIGTERM)
child = os.fork()
if not child:
    own_signals.restore()
    signal.signal(signal.SIGTERM, kept)
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code) == [str(-15)]


def test_setting_a_handler_twice_keeps_what_was_there_before_the_first() -> None:
    code = """
signal.signal(signal.SIGUSR1, note)
for _ in range(2):
    own_signals.handle(signal.SIGUSR1, lambda number, frame: None)
own_signals.restore()
print(signal.getsignal(signal.SIGUSR1) is note)
"""
    assert run(code) == ["True"]
