"""apps_directory.py: what comes and goes in the directory of applications."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.server.apps_directory import AppsDirectory, Changes, changes
from appsrv.settings.table import Settings


def group(name: str, base_uri: str) -> AppGroup:
    return AppGroup(AppSpec(name, "app"), Settings(base_uri=base_uri), name)


A, B, C = group("/a", "/a"), group("/b", "/b"), group("/c", "/c")


def test_nothing_has_changed() -> None:
    assert changes({"/a": A}, {"/a": A}, [B]) == Changes()


def test_one_comes_and_one_goes() -> None:
    assert changes({"/a": A}, {"/b": B}, []) == Changes((B,), ("/a",))


def test_other_settings_make_another_application() -> None:
    changed = replace(A, settings=replace(A.settings, threads=2))
    assert changes({"/a": A, "/b": B}, {"/a": changed, "/b": B}, []) == Changes((changed,), ("/a",))


def test_what_cannot_be_served_any_more_goes() -> None:
    assert changes({"/a": A}, {"/a": "it is broken"}, []) == Changes((), ("/a",), {"/a": "it is broken"})


def test_a_place_is_of_who_was_there_first() -> None:
    rival = group("/r", "/c")
    assert "already" in changes({"/a": A}, {"/a": A, "/r": rival}, [C]).problems["/r"]
    assert changes({"/c": C}, {"/r": rival}, []) == Changes((rival,), ("/c",)), "which may have gone in the meantime"
    both = changes({}, {"/c": C, "/r": rival}, [])
    assert (both.new, list(both.problems)) == ((C,), ["/r"])


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text("application = print\n")
    return tmp_path


def test_looking_again_and_again(apps: Path) -> None:
    directory = AppsDirectory(Settings(apps_directory=str(apps)), {})
    first = directory.scan()
    assert first is not None
    assert list(first) == [str(apps / "one"), str(apps / "two")]
    assert directory.scan() == first
    (apps / "one" / "appsrv.toml").write_text("threads = 3\n")
    (apps / "three").mkdir()
    shutil.rmtree(apps / "two")
    second = directory.scan()
    assert second is not None
    changed = second[str(apps / "one")]
    assert isinstance(changed, AppGroup)
    assert changed.settings.threads == 3
    assert "no application found" in str(second[str(apps / "three")])
    (apps / "three" / "app.py").write_text("application = print\n")
    third = directory.scan()
    assert third is not None
    assert isinstance(third[str(apps / "three")], AppGroup)


def test_a_directory_that_cannot_be_read_drops_nobody(apps: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = AppsDirectory(Settings(apps_directory=str(apps / "gone")), {})
    assert directory.scan() is None
    assert directory.scan() is None
    assert caplog.text.count("what is served goes on") == 1


def test_another_directory_in_its_place_is_looked_at(apps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is turned to a new release, in which the application is another file; or a new owner."""
    (apps / ".releases").mkdir()
    for name in ("app", "wsgi"):
        (apps / ".releases" / name).mkdir()
        (apps / ".releases" / name / f"{name}.py").write_text("application = print\n")
    current = apps / "current"
    current.symlink_to(apps / ".releases" / "app")
    directory = AppsDirectory(Settings(apps_directory=str(apps)), {})
    assert _target(directory, current) == "app"
    current.unlink()
    current.symlink_to(apps / ".releases" / "wsgi")
    assert _target(directory, current) == "wsgi"
    monkeypatch.setattr("appsrv.apps.hosting.user_of_owner", lambda user, place: str(Path(place).stat().st_uid))
    if os.geteuid() == 0:
        os.chown(apps / ".releases" / "wsgi", 65534, 65534)
        looked = (directory.scan() or {})[str(current)]
        assert isinstance(looked, AppGroup)
        assert looked.settings.user == "65534"


def _target(directory: AppsDirectory, place: Path) -> str:
    looked = (directory.scan() or {})[str(place)]
    assert isinstance(looked, AppGroup)
    return looked.spec.target
