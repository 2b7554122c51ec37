"""The title of a process, as `ps` shows it. Knows names of files, which may be no text, and no process but its own."""

from __future__ import annotations

import os

import setproctitle

__all__ = ["set_title"]


def set_title(title: str) -> None:
    """Set it. The name of a directory need not be text in the locale's encoding; setproctitle takes UTF-8 alone."""
    setproctitle.setproctitle(os.fsencode(title).decode("utf-8", "replace"))
