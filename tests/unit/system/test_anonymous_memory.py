"""anonymous_memory.py: what one process writes another one reads, with memfd_create(2) and without."""

from __future__ import annotations

import mmap
import os

import pytest

from appsrv.system.anonymous_memory import anonymous_memory


@pytest.mark.parametrize("has_memfd", [True, False])
def test_two_mappings_share_it(has_memfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    fd = anonymous_memory("appsrv-test")
    try:
        assert (os.fstat(fd).st_size, os.get_inheritable(fd)) == (0, False)
        os.ftruncate(fd, mmap.PAGESIZE)
        with mmap.mmap(fd, mmap.PAGESIZE) as one, mmap.mmap(fd, mmap.PAGESIZE) as other:
            one[:5] = b"hello"
            assert other[:5] == b"hello"
    finally:
        os.close(fd)
