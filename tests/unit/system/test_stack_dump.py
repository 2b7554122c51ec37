"""stack_dump.py: asking a real process, and reading what faulthandler writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.errors import AdminError
from appsrv.system import own_frames, stack_dump

pytestmark = pytest.mark.process

CODE = """
import sys, threading, time
from appsrv.system import stack_dump as trace
{before}
trace.listen(sys.argv[1])
{after}
there = threading.Event()
def sleeping():
    there.set()
    time.sleep(60)
threading.Thread(target=sleeping, daemon=True).start()
there.wait()
def waiting():
    print(flush=True)
    while True:
        time.sleep(0.01)
waiting()
"""


class Subject:
    def __init__(self, directory: Path, before: str = "", after: str = "") -> None:
        code = CODE.format(before=before, after=after)
        self.process = subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    subject = Subject(tmp_path)
    yield subject
    subject.close()


def test_all_threads_the_main_one_first(subject: Subject, tmp_path: Path) -> None:
    for _ in range(3):
        main, other = stack_dump.ask(tmp_path, subject.process.pid)
        assert [frame.function for frame in main.frames] == ["<module>", "waiting"]
        assert main.current
        assert "run" in [frame.function for frame in other.frames]
    assert (tmp_path / stack_dump.FILE).stat().st_mode & 0o777 == 0o600


def test_a_stopped_process_says_so_and_its_late_answer_is_not_another_s(subject: Subject, tmp_path: Path) -> None:
    other = Subject(tmp_path)
    os.kill(other.process.pid, signal.SIGSTOP)
    os.waitpid(other.process.pid, os.WUNTRACED)
    with pytest.raises(AdminError, match="it is stopped"):
        stack_dump.ask(tmp_path, other.process.pid, timeout=0.05)
    os.kill(other.process.pid, signal.SIGCONT)
    assert len(stack_dump.ask(tmp_path, subject.process.pid)) == 2
    other.close()


def test_asking_with_a_descriptor_one_after_the_other(subject: Subject, tmp_path: Path) -> None:
    answers = stack_dump.open_answers(tmp_path)
    (tmp_path / stack_dump.FILE).rename(tmp_path / "out-of-reach")
    assert len(stack_dump.ask(answers, subject.process.pid)) == 2

    def ask_meanwhile(_: float) -> None:
        with pytest.raises(AdminError, match="is being traced"):
            stack_dump.ask(answers, subject.process.pid, timeout=0, sleep=lambda _: None)

    assert len(stack_dump.ask(answers, subject.process.pid, sleep=ask_meanwhile)) == 2
    os.close(answers)


def test_one_that_ignores_the_question(tmp_path: Path) -> None:
    deaf = Subject(tmp_path, after="import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [trace.SIGNAL])")
    with pytest.raises(AdminError, match="blocks signal"):
        stack_dump.ask(tmp_path, deaf.process.pid, timeout=0.1)
    deaf.close()


def test_those_that_cannot_be_asked(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(AdminError, match="not one of appsrv's own"):
        stack_dump.ask(tmp_path, os.getpid())
    subject.close()
    with pytest.raises(AdminError, match="cannot be traced"):
        stack_dump.ask(tmp_path, subject.process.pid)
    with pytest.raises(AdminError, match="No such file"):
        stack_dump.ask(tmp_path / "nowhere", os.getpid())
    answers = stack_dump.open_answers(tmp_path / "nowhere")
    try:
        with pytest.raises(AdminError, match="run directory was missing"):
            stack_dump.ask(answers, subject.process.pid)
    finally:
        os.close(answers)


def test_what_faulthandler_writes() -> None:
    threads = stack_dump.parse(
        'Thread 0x00007f01 [worker] (most recent call first):\n  File "a, line 1 in b.py", line 12 in inner\n'
        '  File "a.py", line ??? in outer\n  ...\n\n'
        "Current thread 0x00007f02 (most recent call first):\n  <no Python frame>\n"
    )
    assert threads == [
        stack_dump.Thread("0x00007f02", "", True),
        stack_dump.Thread(
            "0x00007f01",
            "worker",
            False,
            [stack_dump.Frame("a.py", 0, "outer"), stack_dump.Frame("a, line 1 in b.py", 12, "inner")],
        ),
    ]
    source = {("a.py", 0): "", ("a, line 1 in b.py", 12): "    turn()\x1b[2J\n"}
    assert list(stack_dump.as_text(threads, lambda file, line: source[file, line])) == [
        "",
        "main thread 0x00007f02 (most recent call last):",
        "  (no frame of Python)",
        "",
        "worker 0x00007f01 (most recent call last):",
        '  File "a.py", line 0, in outer',
        '  File "a, line 1 in b.py", line 12, in inner',
        "    turn()[2J",
    ]


def test_what_concerns_the_application() -> None:
    own = own_frames.PACKAGE_DIRECTORY.rstrip("/")
    threads = stack_dump.parse(
        f"""Thread 0x0003 (most recent call first):
  File "/usr/lib/python3/threading.py", line 9 in wait
  File "{own}/leadership.py", line 9 in _sit
  File "/usr/lib/python3/threading.py", line 8 in run

Thread 0x0002 (most recent call first):
  File "/srv/shop/clock.py", line 5 in tick
  File "/usr/lib/python3/threading.py", line 8 in run

Current thread 0x0001 (most recent call first):
  File "/srv/shop/orders.py", line 3 in orders
  File "/srv/shop/wsgi.py", line 31 in application
  File "{own_frames.CALLS_APPLICATION}", line 9 in respond
  File "{own}/worker.py", line 9 in run
"""
    )
    shown = [[frame.function for frame in thread.frames] for thread in stack_dump.of_application(threads)]
    assert shown == [["application", "orders"], ["run", "tick"]]
