"""What is reported of an application's directory that goes or is replaced."""

from __future__ import annotations

from pathlib import Path

from appsrv.system.root_watch import RootWatch, identity


def test_a_directory_that_goes_is_told_once(tmp_path: Path) -> None:
    root = tmp_path / "releases" / "1"
    root.mkdir(parents=True)
    watch, loaded_from = RootWatch(str(root)), identity(str(root))
    assert watch.check(loaded_from) is None
    root.rmdir()
    reported = [watch.check(loaded_from) for _ in range(5)]
    assert [line is not None for line in reported] == [False, True, False, False, False]
    assert f"{root}, the directory of the application, has been removed" in str(reported[1])
    assert [watch.check(()) for _ in range(3)] == [None] * 3, "nothing is loaded"


def test_a_link_that_turns_is_told_unless_a_restart_follows(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
    current = tmp_path / "current"

    def turn(name: str) -> None:
        (tmp_path / "new").symlink_to(name)
        (tmp_path / "new").replace(current)

    turn("1")
    watch, first = RootWatch(str(current)), identity(str(current))
    assert watch.check(first) is None
    turn("2")
    second = identity(str(current))
    assert [watch.check(first), watch.check(second), watch.check(second)] == [None] * 3
    turn("3")
    reported = [watch.check(second) for _ in range(4)]
    assert [line is not None for line in reported] == [False, True, False, False]
    assert f"appsrv restart-app {current} loads" in str(reported[1])
    turn("2")
    assert [watch.check(second) for _ in range(3)] == [None] * 3, "as it was loaded from"
