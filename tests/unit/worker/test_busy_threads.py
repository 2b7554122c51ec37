"""busy_threads.py: which threads are at work, and how long they are waited for."""

from __future__ import annotations

import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from appsrv.worker.busy_threads import MOST_NAMED, BusyThread, LastThreads, busy
from support.waiting import wait_for

ORDINARY = BusyThread("job", daemon=False, place="/srv/a.py:1 in job")
DAEMON = BusyThread("cache", daemon=True, place="")


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def names(*threads: threading.Thread) -> list[str]:
    return [thread.name for thread in busy(threads, sys._current_frames())]


def test_who_works_and_who_waits_for_work(released: threading.Event) -> None:
    work: queue.Queue[object] = queue.Queue()

    def job() -> None:
        while not released.is_set():
            time.sleep(0.001)

    threads = {
        "daemon at work": threading.Thread(target=job, daemon=True),
        "ordinary at work": threading.Thread(target=job),
        "daemon with an empty queue": threading.Thread(target=work.get, daemon=True),
        "daemon that waits": threading.Thread(target=released.wait, daemon=True),
        "ordinary that waits": threading.Thread(target=released.wait),
        "appsrv-1": threading.Thread(target=job, daemon=True),
    }
    for name, thread in threads.items():
        thread.name = name
        thread.start()
    expected = ["daemon at work", "ordinary at work", "ordinary that waits"]
    wait_for(lambda: names(*threads.values()) == expected, "the threads to stand where they stay")
    assert names(threading.main_thread()) == []
    place = busy([threads["daemon at work"]], sys._current_frames())[0].place
    assert re.fullmatch(rf"{re.escape(__file__)}:\d+ in job", place)
    work.put(None)


def test_a_thread_of_an_executor_is_at_work_during_a_job_only(released: threading.Event) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="pool") as executor:
        job = executor.submit(released.wait)
        (thread,) = (thread for thread in threading.enumerate() if thread.name.startswith("pool"))
        wait_for(lambda: names(thread), "the job to be seen")
        released.set()
        job.result()
        wait_for(lambda: not names(thread), "the thread to be without a job")


class End:
    """A worker's end: `ends` tells when each thread ends; the clock goes on with each sleep."""

    def __init__(self, ends: dict[BusyThread, float], most: float = 0.0) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.counts: list[int] = []
        self.last = LastThreads(
            self.lines.append, self.counts.append, most, 30.0,
            lambda: [thread for thread, end in ends.items() if self.now < end], lambda: self.now, self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_what_ends_at_once_needs_no_line() -> None:
    end = End({ORDINARY: 0.4, DAEMON: 0.0})
    end.last.wait()
    end.last.report_threads()
    assert (end.lines, end.counts[-1]) == ([], 0)
    assert end.now < 1.0


def test_python_waits_for_ordinary_threads_and_not_for_daemons() -> None:
    end = End({ORDINARY: 60.0, DAEMON: 60.0})
    end.last.wait()
    assert end.now == 0.0
    end.last.report_threads()
    assert end.now == pytest.approx(1.0, abs=0.1)
    assert [line.split(": ", 1)[1] for line in end.lines] == [
        "daemon thread 'cache'", "thread 'job' at /srv/a.py:1 in job"
    ]
    assert "stop_timeout (30 s)" in end.lines[1]


def test_all_are_waited_for_up_to_the_limit() -> None:
    end = End({ORDINARY: 5.0, DAEMON: 20.0}, most=300.0)
    end.last.wait()
    assert end.now == pytest.approx(20.0, abs=0.2)
    assert (len(end.lines), end.counts[0], end.counts[-1]) == (1, 2, 0)
    end = End({DAEMON: 1000.0}, most=300.0)
    end.last.wait()
    assert end.now == pytest.approx(300.0, abs=0.2)
    assert end.counts[-1] == 1


def test_daemon_threads_need_not_be_named() -> None:
    end = End({ORDINARY: 60.0, DAEMON: 60.0})
    end.last.report_threads(of_daemons=False)
    assert len(end.lines) == 1
    assert "job" in end.lines[0]


def test_many_threads_make_one_line() -> None:
    end = End({BusyThread(f"t{n}", daemon=True, place=""): 60.0 for n in range(MOST_NAMED + 5)})
    end.last.report_threads()
    assert len(end.lines) == 1
    assert end.lines[0].endswith("; and 5 more")
