"""Memory without a path, for several processes: each maps the descriptor that it inherits or is sent.

Knows no contents.
"""

from __future__ import annotations

import os


def anonymous_memory(name: str) -> int:
    """A descriptor of 0 bytes, which the caller makes longer. /proc shows `name` where the system has memfd_create(2).

    Elsewhere it is a temporary file, which is removed at once.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    import tempfile  # It brings 14 modules, and Linux never needs it.

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
