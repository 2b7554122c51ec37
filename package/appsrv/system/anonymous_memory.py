"""Shared memory without a path. Each process maps the descriptor that it has inherited or received (mmap(2)).

Knows nothing of the contents.
"""

from __future__ import annotations

import os


def anonymous_memory(name: str) -> int:
    """A descriptor of a file of 0 bytes, whose size the caller sets (ftruncate(2)).

    It is made by memfd_create(2), and /proc shows `name`; on a system without that call it is a temporary file, which
    is removed at once.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    import tempfile  # Imported here: it loads 14 modules, and Linux never needs them.

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
