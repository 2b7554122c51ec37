"""safe_open.py: names that lead out, links, races, and what is no regular file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appsrv.system.safe_open import OutsideRoot, open_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "file").write_text("inside")
    (tmp_path / "root" / "top").write_text("top")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("outside")
    return tmp_path / "root"


def read(root: Path, name: str) -> str:
    fd = open_below(os.fsencode(root), os.fsencode(name))
    with open(fd) as file:
        assert not os.get_inheritable(fd)
        return file.read()


def test_a_file(root: Path) -> None:
    assert read(root, "a/b/file") == "inside"
    assert read(root, f"{root}/a/b/file") == "inside"
    assert read(root, "a/../a//b/./file") == "inside"
    assert read(root, "top") == "top"


@pytest.mark.parametrize("name", ["../outside/file", "a/../../outside/file", "/etc/passwd", "..", "a/b/../../.."])
def test_a_name_that_leads_out(root: Path, name: str) -> None:
    with pytest.raises(OutsideRoot):
        read(root, name)


def test_a_directory_whose_name_begins_like_the_root(root: Path) -> None:
    root.with_name("root2").mkdir()
    (root.with_name("root2") / "file").write_text("other")
    with pytest.raises(OutsideRoot):
        read(root, f"{root}2/file")


def test_links_within_are_followed_and_links_out_are_not(root: Path) -> None:
    (root / "within").symlink_to("a/b/file")
    (root / "absolute").symlink_to(root / "a")
    (root / "out").symlink_to(root.parent / "outside" / "file")
    (root / "outdir").symlink_to("../outside")
    assert read(root, "within") == read(root, "absolute/b/file") == "inside"
    for name in ("out", "outdir/file"):
        with pytest.raises(OutsideRoot):
            read(root, name)


def test_the_root_may_be_a_link(root: Path) -> None:
    link = root.with_name("current")
    link.symlink_to(root)
    assert read(link, "a/b/file") == read(link, f"{link}/a/b/file") == "inside"
    assert read(link, f"{root}/top") == "top"


@pytest.mark.parametrize("name", ["nothing", "a", "a/b", "", ".", "top/below", "a/nothing/file", "loop", "x" * 300])
def test_what_is_not_there(root: Path, name: str) -> None:
    (root / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError):
        read(root, name)


def test_what_is_no_regular_file_is_not_opened(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(root)
        listener.bind("socket")
        for name in ("pipe", "socket"):
            with pytest.raises(FileNotFoundError, match="not a regular file"):
                read(root, name)


@pytest.mark.parametrize("part", ["a", "a/b", "a/b/file"])
def test_a_link_put_there_after_the_name_was_resolved(root: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write below the root exchanges a part for a link to elsewhere, at the worst moment."""
    resolve = os.path.realpath
    outside = root.parent / "outside"
    (outside / "b").mkdir()
    (outside / "b" / "file").write_text("outside")

    def resolve_then_exchange(path: bytes) -> bytes:
        found = resolve(path)
        if path.endswith(b"file"):
            (root / part).rename(root.parent / "moved")
            (root / part).symlink_to({"a": outside, "a/b": outside, "a/b/file": outside / "file"}[part])
        return found

    monkeypatch.setattr(os.path, "realpath", resolve_then_exchange)
    with pytest.raises(FileNotFoundError):
        read(root, "a/b/file")


def test_descriptors_are_given_back(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a/b/nothing", "a", "top/below"):
        with pytest.raises(FileNotFoundError):
            read(root, name)
    assert len(os.listdir("/proc/self/fd")) == before
