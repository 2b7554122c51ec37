"""reloader.py: which files are watched, and what counts as a change."""

from __future__ import annotations

import importlib.util
import math
import os
import py_compile
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from appsrv.development import reloader
from support.waiting import wait_for

DEADLINE = 10.0


@pytest.fixture(autouse=True)
def _compiled_files_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def save(path: Path, text: str, age: float = 0.0) -> str:
    """Write a file and set its time: file systems are too coarse to tell two quick writes apart."""
    path.write_text(text)
    moment = time.time() - age
    os.utime(path, (moment, moment))
    return str(path)


# -- which files


def test_traceback_files_cover_syntax_errors_and_causes(tmp_path: Path) -> None:
    broken = save(tmp_path / "broken.py", "x = (\n")
    outer = save(
        tmp_path / "outer.py",
        f"try:\n compile('(', {broken!r}, 'exec')\nexcept SyntaxError as e:\n raise ImportError('no') from e\n",
    )
    with pytest.raises(ImportError) as caught:
        exec(compile(Path(outer).read_text(), outer, "exec"), {})
    assert {broken, outer, __file__} <= reloader.traceback_files(caught.value)


def test_changed_since_import_compares_with_the_compiled_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "mine.py", "x = 1\n", age=100)
    assert not reloader.changed_since_import(path)
    py_compile.compile(path)
    assert not reloader.changed_since_import(path)
    save(tmp_path / "mine.py", "x = 2\n", age=50)
    assert reloader.changed_since_import(path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert not reloader.changed_since_import(path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    Path(importlib.util.cache_from_source(path)).write_bytes(b"short")
    assert not reloader.changed_since_import(path)


IMPORT_AND_SAVE = """
import os, pathlib, sys
from appsrv.development import reloader
reloader.remember_loaded()
reloader.remember_loaded()
import mine, other
path = pathlib.Path("mine.py").resolve()
os.utime("other.py", ns=(os.stat("other.py").st_atime_ns, os.stat("other.py").st_mtime_ns))
before = reloader.changed_since_import(str(path))
# As long as before, and of the same second.
moment = os.stat(path).st_mtime_ns + 1_000_000
path.write_text("x = 2")
os.utime(path, ns=(moment, moment))
other = str(pathlib.Path("other.py").resolve())
print(before, reloader.changed_since_import(str(path)), reloader.changed_since_import(other))
"""


@pytest.mark.process
@pytest.mark.parametrize("bytecode", ["", "1"])
def test_what_was_imported_is_remembered(tmp_path: Path, bytecode: str) -> None:
    """With and without compiled files, and however soon after the import it was saved."""
    moment = int(time.time()) - 10
    for name in ("mine.py", "other.py"):
        save(tmp_path / name, "x = 1")
        os.utime(tmp_path / name, (moment, moment))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_SAVE], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": bytecode},
    )
    assert done.stdout.split() == ["False", "True", "False"], done.stderr


LINKED = """
import os, pathlib, sys
sys.path.insert(0, os.path.join(os.getcwd(), "link"))
from appsrv.development import reloader
reloader.remember_loaded()
import mine
path = os.path.realpath(mine.__file__)
before = reloader.changed_since_import(path)
pathlib.Path(path).write_text("x = 2222")
print(before, reloader.changed_since_import(path), mine.__file__ == path)
"""


@pytest.mark.process
def test_so_is_what_was_imported_through_a_link(tmp_path: Path) -> None:
    """Django names files by their real paths."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "real" / "mine.py", "x = 1", age=10)
    done = subprocess.run(
        [sys.executable, "-c", LINKED], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.stdout.split() == ["False", "True", "False"], done.stderr


# -- what counts as a change


def test_snapshot_reports_each_change_once(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", "a", age=9), save(tmp_path / "two", "a", age=9)
    snapshot = reloader.Snapshot()
    assert snapshot.changes([one, two]) == []
    save(tmp_path / "two", "b", age=5)
    assert snapshot.changes([one, two]) == [two]
    assert snapshot.changes([one, two]) == []


def test_snapshot_ignores_new_and_removed_files_but_not_replaced_ones(tmp_path: Path) -> None:
    one = save(tmp_path / "one", "a", age=9)
    snapshot = reloader.Snapshot()
    assert snapshot.changes([one]) == []
    late = save(tmp_path / "late", "a", age=9)
    assert snapshot.changes([one, late]) == []
    os.remove(one)
    assert snapshot.changes([one, late]) == []
    save(tmp_path / "one", "a", age=5)
    assert snapshot.changes([one, late]) == [one]


def test_first_look_tells_what_was_saved_while_the_program_started(tmp_path: Path) -> None:
    old, fresh = save(tmp_path / "old.py", "x = 1", age=100), save(tmp_path / "fresh.py", "x = 1", age=20)
    for path in (old, fresh):
        py_compile.compile(path)
    save(tmp_path / "old.py", "x = 22", age=99)
    save(tmp_path / "fresh.py", "x = 22", age=1)
    assert reloader.Snapshot(since=time.time() - 10).changes([old, fresh]) == [fresh]
    assert reloader.Snapshot().changes([old, fresh]) == []


def test_looking_takes_a_bounded_share_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"monotonic": 100.0, "thread_time": 1.0}
    for name in now:
        monkeypatch.setattr(time, name, lambda name=name: now[name])
    budget = reloader.CpuBudget(1.0)
    with budget:
        now["thread_time"] += 0.05
    assert budget.interval == pytest.approx(0.05 / reloader.MAX_CPU_SHARE)
    now["monotonic"] += 1.0
    assert not budget.is_due()
    assert budget.is_due(earlier=True)
    now["monotonic"] += budget.interval - 1.0
    assert budget.is_due()


def test_files_are_asked_for_again_when_modules_were_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    files = ["one.py"]
    known = reloader.KnownFiles(lambda: files)
    files.append("two.py")
    now[0] += reloader.REFRESH_SECONDS / 2
    assert not known.refresh()
    monkeypatch.setitem(sys.modules, "imported_late", sys)
    now[0] += reloader.REFRESH_SECONDS / 2
    assert known.refresh()
    assert known.paths == {"one.py", "two.py"}


# -- the real thing


@pytest.fixture(params=["watchfiles", "polling"])
def notice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "watchfiles":
        pytest.importorskip("watchfiles")
    else:
        monkeypatch.setattr(reloader, "has_watchfiles", lambda: False)
        monkeypatch.setattr(reloader, "POLL_SECONDS", 0.01)
    return str(request.param)


class Watching:
    """`watch` in a thread, its reports in a queue."""

    def __init__(self, files: Callable[[], list[str]], handled: bool = False, since: float = math.inf):
        self.reports: queue.Queue[list[str]] = queue.Queue()
        self.asked = threading.Event()
        self.stop = threading.Event()
        self.files, self.handled = files, handled
        self.thread = threading.Thread(
            target=reloader.watch,
            args=(self._files, self._changed),
            kwargs={"stop": self.stop, "since": since},
        )

    def _files(self) -> list[str]:
        found = self.files()
        self.asked.set()
        return found

    def _changed(self, paths: list[str]) -> bool:
        self.reports.put(paths)
        return not self.handled

    def __enter__(self) -> Watching:
        self.thread.start()
        assert self.asked.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


def report_of(watching: Watching, touch: Callable[[], object]) -> list[str]:
    """The first report; the change is made again until somebody watches (set-up takes its time)."""
    limit = time.monotonic() + DEADLINE
    while time.monotonic() < limit:
        touch()
        try:
            return watching.reports.get(timeout=0.2)
        except queue.Empty:
            continue
    raise AssertionError("no change was reported")


@pytest.mark.usefixtures("notice")
def test_a_saved_file_is_reported_and_ends_the_watch(tmp_path: Path) -> None:
    path = save(tmp_path / "one.py", "a", age=9)
    with Watching(lambda: [path]) as watching:
        assert report_of(watching, lambda: (tmp_path / "one.py").write_text("b")) == [path]
        watching.thread.join(DEADLINE)
        assert not watching.thread.is_alive()


@pytest.mark.usefixtures("notice")
def test_a_change_somebody_handled_does_not_end_the_watch(tmp_path: Path) -> None:
    path = save(tmp_path / "one.html", "a", age=9)
    with Watching(lambda: [path], handled=True) as watching:
        for text in ("bb", "ccc"):
            assert report_of(watching, partial((tmp_path / "one.html").write_text, text)) == [path]


@pytest.mark.usefixtures("notice")
@pytest.mark.parametrize("error", [FileNotFoundError("a directory"), RuntimeError("changed size during iteration")])
def test_files_that_go_away_while_they_are_gone_through_do_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(reloader, "REFRESH_SECONDS", 0.05)
    path = save(tmp_path / "one.py", "a", age=9)
    asked: list[None] = []

    def files() -> list[str]:
        asked.append(None)
        if len(asked) in (2, 3):
            raise error
        return [path]

    with Watching(files) as watching:
        wait_for(lambda: len(asked) > 3 or not watching.thread.is_alive(), "the files to be asked for again")
        assert report_of(watching, lambda: (tmp_path / "one.py").write_text("b")) == [path]


@pytest.mark.usefixtures("notice")
def test_what_was_saved_during_the_start_is_reported_at_once(tmp_path: Path) -> None:
    path = save(tmp_path / "one.py", "x = 1", age=20)
    py_compile.compile(path)
    save(tmp_path / "one.py", "x = 22")
    with Watching(lambda: [path], since=time.time() - 5) as watching:
        assert watching.reports.get(timeout=DEADLINE) == [path]


def test_without_inotify_watches_it_polls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "one.py", "a", age=9)

    def refuse(directories: set[str], stop: threading.Event) -> object:
        raise OSError("No space left on device")

    monkeypatch.setattr(reloader, "has_watchfiles", lambda: True)
    monkeypatch.setattr(reloader, "_system_changes", refuse)
    monkeypatch.setattr(reloader, "POLL_SECONDS", 0.01)
    with Watching(lambda: [path]) as watching:
        assert report_of(watching, lambda: (tmp_path / "one.py").write_text("b")) == [path]
